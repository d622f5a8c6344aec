import Foundation

/// Assignment of embeddings to prototypes that uses all prototypes equally. Caron et al. 2020, arXiv:2006.09882,
/// eq. 3 to 5; reference facebookresearch/swav, `main_swav.py`: scales the columns and rows of exp(S/ε) in turn.
///
///     q_bk = exp(S_bk/ε + u_k + v_b),   u_k ← −log Σ_b exp(S_bk/ε + v_b),   v_b ← −log Σ_k exp(S_bk/ε + u_k)
///
/// Sums are over the embeddings of all ranks. It works with logarithms, because exp(S/ε) overflows for small ε.
package struct Sinkhorn {
  /// ε; smaller is sharper.
  package let epsilon: Double
  /// How often columns and rows are scaled.
  package let iterations: Int
  private static let columnsPerBlock = 64

  /// The assignment at a sharpness.
  package init(epsilon: Double, iterations: Int = 3) {
    self.epsilon = epsilon
    self.iterations = iterations
  }

  /// - Parameters:
  ///   - scores: (N, K) similarities of this rank's embeddings. The embeddings of all ranks are assigned together.
  ///   - q: (N, K), overwritten; every row sums to 1.
  package func assign(_ scores: Tensor, into q: Tensor, _ context: Context) {
    precondition(scores.hasShape(of: q), "assignments \(q.shape) of scores \(scores.shape)")
    let n = scores.n
    let k = scores.c
    let sharpness = 1 / epsilon
    context.scratch { arena in
      let u = arena.array(of: Double.self, count: k)
      let largest = arena.array(of: Double.self, count: k)
      let v = arena.array(of: Double.self, count: max(1, n))
      context.run(1) { _, _ in
        u.update(repeating: 0)
        v.update(repeating: 0)
      }
      for _ in 0..<iterations {
        columns(k, context) { block in
          for j in block { largest[j] = -.infinity }
          for b in 0..<n {
            for j in block { largest[j] = max(largest[j], Double(scores.data[b * k + j]) * sharpness + v[b]) }
          }
        }
        context.allReduce(largest, .max, on: .statistics, "largest scores of prototypes")
        columns(k, context) { block in
          for j in block { u[j] = 0 }
          for b in 0..<n {
            for j in block { u[j] += exp(Double(scores.data[b * k + j]) * sharpness + v[b] - largest[j]) }
          }
        }
        context.allReduce(u, on: .statistics, "mass of prototypes")
        context.run(1) { _, _ in for j in 0..<k { u[j] = -(log(u[j]) + largest[j]) } }
        context.run(n) { b, _ in
          let row = scores.data + b * k
          var top = -Double.infinity
          var sum = 0.0
          for j in 0..<k { top = max(top, Double(row[j]) * sharpness + u[j]) }
          for j in 0..<k { sum += exp(Double(row[j]) * sharpness + u[j] - top) }
          v[b] = -(log(sum) + top)
        }
      }
      context.run(n) { b, _ in
        for j in 0..<k { q.data[b * k + j] = Float(exp(Double(scores.data[b * k + j]) * sharpness + u[j] + v[b])) }
      }
    }
  }

  private func columns(_ count: Int, _ context: Context, _ body: (Range<Int>) -> Void) {
    context.run((count + Self.columnsPerBlock - 1) / Self.columnsPerBlock) { block, _ in
      body(block * Self.columnsPerBlock..<min(count, (block + 1) * Self.columnsPerBlock))
    }
  }
}
