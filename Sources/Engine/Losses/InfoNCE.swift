/// InfoNCE of queries against their keys and a queue. He et al. 2019, arXiv:1911.05722, eq. 1 and Algorithm 1:
///
///     L_q = −log( exp(q·k₊/τ) / Σ_{i=0..Q} exp(q·k_i/τ) )
///
/// No gradient flows to keys or queue.
package struct InfoNCE {
  package let temperature: Float
  /// Factor on the loss.
  package let scale: Float

  package init(temperature: Float, scale: Float = 1) {
    self.temperature = temperature
    self.scale = scale
  }

  /// - Parameters:
  ///   - q: (n, D) queries of this rank, not normalised; becomes their gradient.
  ///   - k: (n, D) their keys, normalised.
  ///   - queue: (Q, D), normalised.
  ///   - embeddings: gets the normalised queries where given, for health figures.
  ///   - count: queries of the global batch, that the loss is the mean over.
  /// - Returns: the statistics over all ranks.
  package func apply(
    _ q: Tensor, keys k: Tensor, queue: Tensor, count: Int, _ context: Context,
    keeping embeddings: UnsafeMutablePointer<[Float]>? = nil
  ) -> ContrastiveStatistics {
    precondition(q.hasShape(of: k) && queue.c == q.c, "queries \(q.shape), keys \(k.shape), queue \(queue.shape)")
    let d = q.c
    let candidates = queue.n + 1
    let scale = scale / Float(count)
    return context.scratch { arena in
      let unit = arena.tensor(like: q)
      let norms = arena.array(of: Float.self, count: max(1, q.n)).baseAddress!
      L2Normalise.forward(q, into: unit, norms: norms, context)
      if let embeddings, !context.isDry { embeddings.pointee.replace(with: unit) }
      let logits = arena.tensor(n: q.n, c: candidates)
      let rows = arena.array(of: ContrastiveStatistics.self, count: max(1, q.n))
      context.product(unit, queue, into: logits, column: 1, alpha: 1 / temperature)
      context.run(q.n) { row, _ in
        var positive = 0.0
        for i in 0..<d { positive += Double(unit.data[row * d + i]) * Double(k.data[row * d + i]) }
        let logit = logits.data + row * candidates
        logit[0] = Float(positive / Double(temperature))
        rows[row] = SoftmaxRow.apply(logit, count: candidates, target: 0, temperature: temperature, scale: scale)
      }
      context.product(logits, column: 1, plain: queue, into: q, alpha: 1 / temperature)
      context.run(q.n) { row, _ in
        let weight = logits.data[row * candidates] / temperature
        for i in 0..<d { q.data[row * d + i] += weight * k.data[row * d + i] }
      }
      L2Normalise.backward(q, unit: unit, norms: norms, context)
      var statistics = ContrastiveStatistics()
      context.run(1) { _, _ in for row in 0..<q.n { statistics.add(rows[row]) } }
      statistics.allReduce(context)
      statistics.loss *= Double(self.scale)
      return statistics
    }
  }
}
