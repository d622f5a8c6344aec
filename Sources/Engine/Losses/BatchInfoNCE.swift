/// InfoNCE of queries against the keys of the batch, with gradients to both: the end-to-end mechanism. He et al. 2019,
/// arXiv:1911.05722, eq. 1 and figure 2a:
///
///     L = 1/B Σ_i −log( exp(q_i·k_i/τ) / Σ_{j=1..B} exp(q_i·k_j/τ) )
package struct BatchInfoNCE {
  /// τ
  package let temperature: Float

  /// The loss at a temperature.
  package init(temperature: Float) { self.temperature = temperature }

  /// - Parameters:
  ///   - q: (n, D) queries of this rank, not normalised; becomes their gradient.
  ///   - unitQ: the same, normalised.
  ///   - k: (n, D) their keys, not normalised; becomes their gradient.
  ///   - shares: number of queries on every rank.
  /// - Returns: the statistics over all ranks.
  package func apply(
    _ q: Tensor, _ unitQ: UnitRows, keys k: Tensor, shares: [Int], _ context: Context
  ) -> LossStatistics {
    let batch = shares.reduce(0, +)
    let rank = context.communicator.rank
    precondition(
      q.hasShape(of: k) && shares[rank] == q.n, "queries \(q.shape), keys \(k.shape), \(shares[rank]) images")
    let first = shares[..<rank].reduce(0, +)
    return context.scratch { arena in
      let unitK = UnitRows(k, in: arena, context)
      let all = arena.tensor(n: batch, c: q.c)
      context.gather(unitK.rows, shares: shares, into: all, "keys")
      let logits = arena.tensor(n: q.n, c: batch)
      context.product(unitQ.rows, all, into: logits, alpha: 1 / temperature)
      var statistics = slopes(logits, first: first, context)
      gradient(logits, unitQ.rows, all, first: first, q: q, k: k, context)
      unitQ.backward(q, context)
      unitK.backward(k, context)
      statistics.allReduce(context)
      return statistics
    }
  }

  /// Replaces the logits by the derivatives of the loss.
  /// - first: index of this rank's first key among all.
  private func slopes(_ logits: Tensor, first: Int, _ context: Context) -> LossStatistics {
    let scale = 1 / Float(logits.c)
    return context.sum(rows: logits.n) { row in
      SoftmaxRow.apply(
        logits.data + row * logits.c, count: logits.c, target: first + row, temperature: temperature, scale: scale)
    }
  }

  /// Gradients of queries and keys. A key is a candidate of all ranks' queries, so its gradient is summed over ranks.
  private func gradient(
    _ slopes: Tensor, _ unitQ: Tensor, _ all: Tensor, first: Int, q: Tensor, k: Tensor, _ context: Context
  ) {
    context.scratch { arena in
      let dK = arena.tensor(like: all)
      context.product(transposed: slopes, unitQ, into: dK, alpha: 1 / temperature)
      context.allReduce(dK.buffer, on: .statistics, .gatheredGradient)
      context.product(slopes, plain: all, into: q, alpha: 1 / temperature)
      context.run(1) { _, _ in k.data.update(from: dK.data + first * k.c, count: k.count) }
    }
  }
}
