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
  ///   - z: (2n, D) embeddings of this rank, all first views, then all second views of the same images; becomes this
  ///     rank's part of the gradient.
  ///   - unit: the same, of length one.
  ///   - shares: images of every rank.
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
      // Rank by rank: its first views, then its second views.
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

  /// Similarities over τ: (2n, 2B + K), of this rank's anchors with all embeddings and then the queue.
  private func score(_ unit: Tensor, _ all: Tensor, _ queue: Tensor?, in arena: Arena, _ context: Context) -> Tensor {
    let logits = arena.tensor(n: unit.n, c: all.n + (queue?.n ?? 0))
    context.product(unit, all, into: logits, alpha: 1 / temperature)
    if let queue { context.product(unit, queue, into: logits, column: all.n, alpha: 1 / temperature) }
    return logits
  }

  /// The logits become the loss's derivatives by them.
  /// - first: where this rank's embeddings are among all.
  private func slopes(_ logits: Tensor, first: Int, batch: Int, _ context: Context) -> LossStatistics {
    let n = logits.n / 2
    let scale = scale / Float(2 * batch)
    return context.sum(rows: logits.n) { row in
      SoftmaxRow.apply(
        logits.data + row * logits.c, count: logits.c, target: first + (row + n) % (2 * n), excluded: first + row,
        temperature: temperature, scale: scale)
    }
  }

  /// The loss depends on a row as an anchor, and as a candidate of all ranks' anchors.
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
