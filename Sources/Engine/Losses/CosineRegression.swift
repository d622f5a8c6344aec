/// The regression of predictions onto another view's targets, all of length one. Grill et al. 2020, arXiv:2006.07733,
/// eq. 2, symmetric:
///
///     L = 1/B Σ_i [ ‖p̂_i − ẑ′_i‖² + ‖p̂′_i − ẑ_i‖² ],   ‖p̂ − ẑ′‖² = 2 − 2·p·z′ / (‖p‖·‖z′‖)
///
/// No gradient flows to the targets.
package struct CosineRegression {
  package init() {}

  /// - Parameters:
  ///   - p: (2n, D) predictions of this rank, all first views, then all second ones; becomes their gradient.
  ///   - z: (2n, D) targets in the same order, not normalised.
  ///   - count: images of the global batch, that the loss is the mean over.
  /// - Returns: the statistics over all ranks, a row an image: the loss is the sum of both directions, at most 8.
  package func apply(
    _ p: Tensor, targets z: Tensor, count: Int, _ context: Context
  ) -> ContrastiveStatistics {
    precondition(p.hasShape(of: z) && p.n % 2 == 0, "predictions \(p.shape), targets \(z.shape)")
    let d = p.c
    let n = p.n / 2
    return context.scratch { arena in
      let unit = arena.tensor(like: p)
      let target = arena.tensor(like: z)
      let norms = arena.array(of: Float.self, count: max(1, p.n)).baseAddress!
      let cosines = arena.array(of: Double.self, count: max(1, p.n))
      L2Normalise.forward(p, into: unit, norms: norms, context)
      L2Normalise.forward(z, into: target, norms: nil, context)
      let slope = -2 / Float(count)
      context.run(p.n) { row, _ in
        let other = target.data + (row + n) % p.n * d
        cosines[row] = 0
        for i in 0..<d {
          cosines[row] += Double(unit.data[row * d + i]) * Double(other[i])
          p.data[row * d + i] = slope * other[i]
        }
      }
      L2Normalise.backward(p, unit: unit, norms: norms, context)
      var statistics = ContrastiveStatistics()
      context.run(1) { _, _ in
        for row in 0..<p.n {
          statistics.rows += 0.5
          statistics.loss += 2 - 2 * cosines[row]
          statistics.positive += 0.5 * cosines[row]
        }
      }
      statistics.allReduce(context)
      statistics.correct = .nan
      statistics.negative = .nan
      return statistics
    }
  }
}
