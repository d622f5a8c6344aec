/// The normalised temperature-scaled cross-entropy over all ranks. Chen et al. 2020, arXiv:2002.05709, eq. 1 and
/// Algorithm 1:
///
///     ℓ(i,j) = −log( exp(sim(z_i,z_j)/τ) / Σ_{k≠i} exp(sim(z_i,z_k)/τ) ),   L = 1/(2B) Σ_k [ℓ(2k−1,2k) + ℓ(2k,2k−1)]
///
/// google-research/simclr computes twice this (`tf2/objective.py` adds the two directions' means); see `scale`.
///
/// With the memory of SimCLR v2 (arXiv:2006.10029, section 2) the keys m of a queue add terms to every anchor's
/// denominator: Σ_{k≠i} … + Σ_m exp(z_i·m/τ). No gradient flows to them.
package struct NTXent {
  /// τ
  package let temperature: Float
  /// Factor on the loss.
  package let scale: Float

  /// The loss at a temperature.
  package init(temperature: Float, scale: Float = 1) {
    self.temperature = temperature
    self.scale = scale
  }

  /// Number of an anchor's negatives: the views of all other images in the global batch.
  package static func negatives(batch: Int) -> Int { 2 * batch - 2 }

  /// - Parameters:
  ///   - z: (2n, D) embeddings of this rank, all first views, then all second views of the same images; becomes their
  ///     gradient.
  ///   - unit: the same, normalised.
  ///   - shares: number of images on every rank.
  ///   - queue: (K, D), normalised, the same on every rank; nil for the batch alone.
  /// - Returns: the statistics over all ranks.
  package func apply(
    _ z: Tensor, _ unit: UnitRows, shares: [Int], queue: Tensor? = nil, _ context: Context
  ) -> LossStatistics {
    let batch = shares.reduce(0, +)
    let rank = context.communicator.rank
    precondition(z.n == 2 * shares[rank], "\(z.n) embeddings for \(shares[rank]) images on rank \(rank)")
    let first = 2 * shares[..<rank].reduce(0, +)
    return context.scratch { arena in
      // Ordered by rank; of each rank all first views, then all second views.
      let all = arena.tensor(n: 2 * batch, c: z.c)
      context.gather(unit.rows, shares: shares, views: 2, into: all, "embeddings")
      let logits = score(unit.rows, all, queue, in: arena, context)
      var statistics = slopes(logits, first: first, batch: batch, context)
      gradient(logits, unit.rows, all, queue, first: first, into: z, context)
      unit.backward(z, context)
      statistics.allReduce(context)
      statistics.loss *= Double(scale)
      return statistics
    }
  }

  /// (2n, 2B + K): similarities of this rank's anchors with all embeddings and then the queue, divided by τ.
  private func score(_ unit: Tensor, _ all: Tensor, _ queue: Tensor?, in arena: Arena, _ context: Context) -> Tensor {
    let logits = arena.tensor(n: unit.n, c: all.n + (queue?.n ?? 0))
    context.product(unit, all, into: logits, alpha: 1 / temperature)
    if let queue { context.product(unit, queue, into: logits, column: all.n, alpha: 1 / temperature) }
    return logits
  }

  /// Replaces the logits by the derivatives of the loss.
  /// - first: index of this rank's first embedding among all.
  private func slopes(_ logits: Tensor, first: Int, batch: Int, _ context: Context) -> LossStatistics {
    let n = logits.n / 2
    let scale = scale / Float(2 * batch)
    return context.sum(rows: logits.n) { row in
      SoftmaxRow.apply(
        logits.data + row * logits.c, count: logits.c, target: first + (row + n) % (2 * n), excluded: first + row,
        temperature: temperature, scale: scale)
    }
  }

  /// Gradient of the embeddings: each is an anchor, and a candidate of all ranks' anchors.
  private func gradient(
    _ slopes: Tensor, _ unit: Tensor, _ all: Tensor, _ queue: Tensor?, first: Int, into z: Tensor, _ context: Context
  ) {
    context.scratch { arena in
      let asCandidate = arena.tensor(like: all)
      context.product(transposed: slopes, unit, into: asCandidate, alpha: 1 / temperature)
      context.allReduce(asCandidate.buffer, on: .statistics, .gatheredGradient)
      context.product(slopes, plain: all, into: z, alpha: 1 / temperature)
      if let queue {
        context.product(slopes, column: all.n, plain: queue, into: z, accumulate: true, alpha: 1 / temperature)
      }
      context.run(1) { _, _ in z.data.add(asCandidate.data + first * z.c, count: z.count) }
    }
  }
}
