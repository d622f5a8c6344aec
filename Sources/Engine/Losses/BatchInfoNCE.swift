/// InfoNCE among the keys of the batch, both of whose sides are trained: the end-to-end mechanism. He et al. 2019,
/// arXiv:1911.05722, eq. 1 and figure 2a:
///
///     L = 1/B Σ_i −log( exp(q_i·k_i/τ) / Σ_{j=1..B} exp(q_i·k_j/τ) )
package struct BatchInfoNCE {
  package let temperature: Float

  package init(temperature: Float) { self.temperature = temperature }

  /// - Parameters:
  ///   - q: (n, D) queries of this rank, not normalised; becomes their gradient.
  ///   - k: (n, D) their keys, not normalised; becomes their gradient.
  ///   - shares: queries of every rank.
  ///   - embeddings: gets the normalised queries where given, for health figures.
  /// - Returns: the statistics over all ranks.
  package func apply(
    _ q: Tensor, keys k: Tensor, shares: [Int], _ context: Context,
    keeping embeddings: UnsafeMutablePointer<[Float]>? = nil
  ) -> ContrastiveStatistics {
    let n = q.n
    let d = q.c
    let batch = shares.reduce(0, +)
    let rank = context.communicator.rank
    precondition(q.hasShape(of: k) && shares[rank] == n, "queries \(q.shape), keys \(k.shape), \(shares[rank]) images")
    let first = shares[..<rank].reduce(0, +)
    let scale = 1 / Float(batch)
    return context.scratch { arena in
      let unitQ = arena.tensor(like: q)
      let unitK = arena.tensor(like: k)
      let all = arena.tensor(n: batch, c: d)
      let normsQ = arena.array(of: Float.self, count: max(1, n)).baseAddress!
      let normsK = arena.array(of: Float.self, count: max(1, n)).baseAddress!
      L2Normalise.forward(q, into: unitQ, norms: normsQ, context)
      L2Normalise.forward(k, into: unitK, norms: normsK, context)
      if let embeddings, !context.isDry { embeddings.pointee.replace(with: unitQ) }
      context.gather(unitK, shares: shares, into: all, "keys")
      let logits = arena.tensor(n: n, c: batch)
      let dK = arena.tensor(like: all)
      let rows = arena.array(of: ContrastiveStatistics.self, count: max(1, n))
      context.product(unitQ, all, into: logits, alpha: 1 / temperature)
      context.run(n) { row, _ in
        rows[row] = SoftmaxRow.apply(
          logits.data + row * batch, count: batch, target: first + row, temperature: temperature, scale: scale)
      }
      // A key is the candidate of all ranks' queries.
      context.product(transposed: logits, unitQ, into: dK, alpha: 1 / temperature)
      context.allReduce(dK.buffer, on: .statistics, "gradient of gathered embeddings")
      context.product(logits, plain: all, into: q, alpha: 1 / temperature)
      context.run(1) { _, _ in k.data.update(from: dK.data + first * d, count: n * d) }
      L2Normalise.backward(q, unit: unitQ, norms: normsQ, context)
      L2Normalise.backward(k, unit: unitK, norms: normsK, context)
      var statistics = ContrastiveStatistics()
      context.run(1) { _, _ in for row in 0..<n { statistics.add(rows[row]) } }
      statistics.allReduce(context)
      return statistics
    }
  }
}
