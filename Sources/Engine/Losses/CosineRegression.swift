/// Regression of normalised predictions onto the normalised targets of the other view. Grill et al. 2020,
/// arXiv:2006.07733, eq. 2, symmetric:
///
///     L = 1/B Σ_i [ ‖p̂_i − ẑ′_i‖² + ‖p̂′_i − ẑ_i‖² ],   ‖p̂ − ẑ′‖² = 2 − 2·p·z′ / (‖p‖·‖z′‖)
///
/// No gradient flows to the targets.
package struct CosineRegression {
  /// The loss, which has no options.
  package init() {}

  /// - Parameters:
  ///   - p: (2n, D) predictions of this rank, not normalised, all first views and then all second views; becomes their
  ///     gradient.
  ///   - z: (2n, D) targets in the same order, not normalised.
  ///   - count: images in the global batch; the loss is the mean over them.
  /// - Returns: the statistics over all ranks, one row per image. The loss is the sum of both directions, at most 8,
  ///   and `positive` the mean similarity of prediction and target.
  package func apply(_ p: Tensor, targets z: Tensor, count: Int, _ context: Context) -> LossStatistics {
    precondition(p.hasShape(of: z) && p.n % 2 == 0, "predictions \(p.shape), targets \(z.shape)")
    let d = p.c
    let n = p.n / 2
    return context.scratch { arena in
      let unit = UnitRows(p, in: arena, context)
      let target = arena.tensor(like: z)
      L2Normalise.forward(z, into: target, norms: nil, context)
      let slope = -2 / Float(count)
      var statistics = context.sum(rows: p.n) { row in
        let other = target.data + (row + n) % p.n * d
        var cosine = 0.0
        for i in 0..<d {
          cosine += Double(unit.rows.data[row * d + i]) * Double(other[i])
          p.data[row * d + i] = slope * other[i]
        }
        var direction = LossStatistics()
        direction.rows = 0.5
        direction.loss = 2 - 2 * cosine
        direction.positive = 0.5 * cosine
        return direction
      }
      unit.backward(p, context)
      statistics.allReduce(context)
      return statistics
    }
  }
}
