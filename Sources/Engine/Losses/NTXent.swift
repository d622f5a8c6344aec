import Foundation


/// The normalised temperature-scaled cross-entropy over all ranks. Chen et al. 2020, arXiv:2002.05709, eq. 1 and
/// Algorithm 1:
///
///     ℓ(i,j) = −log( exp(sim(z_i,z_j)/τ) / Σ_{k≠i} exp(sim(z_i,z_k)/τ) ),   L = 1/(2B) Σ_k [ℓ(2k−1,2k) + ℓ(2k,2k−1)]
///
/// google-research/simclr computes twice this (`tf2/objective.py` adds the two directions' means); `scale` is for that.
///
/// With the memory of SimCLR v2 (arXiv:2006.10029, section 2) the keys of a queue are further terms of every anchor's
/// denominator: Σ_{k≠i} … + Σ_m exp(z_i·m/τ). No gradient flows to them.
package struct NTXent {
  package let temperature: Float
  package let scale: Float

  package init(temperature: Float, scale: Float = 1) {
    self.temperature = temperature
    self.scale = scale
  }

  /// Negatives that an anchor sees: the views of all other images of the global batch.
  package static func negatives(batch: Int) -> Int { 2 * batch - 2 }

  /// - Parameters:
  ///   - z: (2n, D) embeddings of this rank, all first views, then all second views of the same images.
  ///   - shares: images of every rank.
  ///   - queue: (K, D), normalised, the same on every rank; nil for the batch alone.
  ///   - embeddings: gets the normalised embeddings where given, for health figures.
  /// - Returns: the statistics over all ranks; `z` becomes this rank's part of the gradient.
  package func apply(
    _ z: Tensor, shares: [Int], queue: Tensor? = nil, _ context: Context,
    keeping embeddings: UnsafeMutablePointer<[Float]>? = nil
  ) -> ContrastiveStatistics {
    let n = z.n / 2
    let d = z.c
    let batch = shares.reduce(0, +)
    let rank = context.communicator.rank
    precondition(z.n == 2 * n && shares[rank] == n, "\(z.n) embeddings for \(shares[rank]) images on rank \(rank)")
    let first = 2 * shares[..<rank].reduce(0, +)
    let rowScale = scale / Float(2 * batch)
    let candidates = 2 * batch + (queue?.n ?? 0)
    return context.scratch { arena in
      let unit = arena.tensor(like: z)
      let norms = arena.array(of: Float.self, count: max(1, z.n)).baseAddress!
      L2Normalise.forward(z, into: unit, norms: norms, context)
      if let embeddings, !context.isDry { embeddings.pointee.replace(with: unit) }
      // Rank by rank: its first views, then its second views.
      let all = arena.tensor(n: 2 * batch, c: d)
      context.gather(unit, shares: shares, views: 2, into: all, "embeddings")
      let logits = arena.tensor(n: z.n, c: candidates)
      let rows = arena.array(of: ContrastiveStatistics.self, count: max(1, z.n))
      context.product(unit, all, into: logits, alpha: 1 / temperature)
      if let queue { context.product(unit, queue, into: logits, column: 2 * batch, alpha: 1 / temperature) }
      context.run(z.n) { row, _ in
        rows[row] = SoftmaxRow.apply(
          logits.data + row * candidates, count: candidates, target: first + (row + n) % (2 * n), excluded: first + row,
          temperature: temperature, scale: rowScale)
      }
      // L depends on a row as anchor, and as candidate of all ranks' anchors.
      let asCandidate = arena.tensor(like: all)
      context.product(transposed: logits, unit, into: asCandidate, alpha: 1 / temperature)
      context.allReduce(asCandidate.buffer, on: .statistics, "gradient of gathered embeddings")
      context.product(logits, plain: all, into: z, alpha: 1 / temperature)
      if let queue {
        context.product(logits, column: 2 * batch, plain: queue, into: z, accumulate: true, alpha: 1 / temperature)
      }
      context.run(1) { _, _ in z.data.add(asCandidate.data + first * d, count: z.count) }
      L2Normalise.backward(z, unit: unit, norms: norms, context)
      var statistics = ContrastiveStatistics()
      context.run(1) { _, _ in for row in 0..<z.n { statistics.add(rows[row]) } }
      statistics.allReduce(context)
      statistics.loss *= Double(scale)
      return statistics
    }
  }
}
