import Foundation

/// Every crop predicts the codes of the assigned crops other than itself. Caron et al. 2020, arXiv:2006.09882, eq. 2 and
/// 6; reference facebookresearch/swav, `main_swav.py`:
///
///     L = 1/A Σ_{a<A} 1/(V−1) Σ_{v≠a} 1/B Σ_i −Σ_k q⁽ᵃ⁾_ik · log p⁽ᵛ⁾_ik,   p = softmax(S/τ)
///
/// A assigned crops come first among the V crops. No gradient flows to the codes q.
package struct SwappedPrediction {
  package let temperature: Float

  package init(temperature: Float) { self.temperature = temperature }

  /// - Parameters:
  ///   - scores: (V·n, K) of this rank, crop after crop; becomes their gradient.
  ///   - codes: (A·n, K) assignments of the first A crops; rows sum to 1.
  ///   - images: n. count: images of the global batch.
  /// - Returns: the statistics over all ranks, a row an image; `correct` counts predictions whose largest entry is the
  ///   code's.
  package func apply(
    _ scores: Tensor, codes: Tensor, images n: Int, count: Int, _ context: Context
  ) -> ContrastiveStatistics {
    let k = scores.c
    let crops = n == 0 ? 0 : scores.n / n
    let assigned = n == 0 ? 0 : codes.n / n
    precondition(
      codes.c == k && scores.n == crops * n && codes.n == assigned * n && assigned <= crops,
      "scores \(scores.shape), codes \(codes.shape), \(n) images")
    let weight = 1 / (Double(max(1, assigned)) * Double(max(1, crops - 1)))
    return context.scratch { arena in
      let rows = arena.array(of: ContrastiveStatistics.self, count: max(1, scores.n))
      context.run(scores.n) { row, _ in
        let s = scores.data + row * k
        let crop = row / n
        let image = row % n
        var largest = -Float.infinity
        var nearest = 0
        var sum = 0.0
        for j in 0..<k where s[j] > largest { (largest, nearest) = (s[j], j) }
        for j in 0..<k { sum += Foundation.exp(Double((s[j] - largest) / temperature)) }
        let logSum = Foundation.log(sum) + Double(largest / temperature)
        var statistics = ContrastiveStatistics()
        var targets = 0.0
        for a in 0..<assigned where a != crop {
          let q = codes.data + (a * n + image) * k
          var top = 0
          var cross = 0.0
          for j in 0..<k {
            if q[j] > q[top] { top = j }
            cross += Double(q[j]) * (logSum - Double(s[j] / temperature))
          }
          statistics.loss += cross * weight
          statistics.correct += top == nearest ? weight : 0
          targets += 1
        }
        // dL/dS = Σ_a (p − q⁽ᵃ⁾)·weight/(τ·B)
        let slope = weight / (Double(temperature) * Double(count))
        for j in 0..<k {
          var codesSum = 0.0
          for a in 0..<assigned where a != crop { codesSum += Double(codes.data[(a * n + image) * k + j]) }
          let p = Foundation.exp(Double(s[j] / temperature) - logSum)
          s[j] = Float(slope * (targets * p - codesSum))
        }
        rows[row] = statistics
      }
      var statistics = ContrastiveStatistics()
      context.run(1) { _, _ in
        for row in 0..<scores.n { statistics.add(rows[row]) }
        statistics.rows = Double(n)
      }
      statistics.allReduce(context)
      statistics.positive = .nan
      statistics.negative = .nan
      return statistics
    }
  }
}
