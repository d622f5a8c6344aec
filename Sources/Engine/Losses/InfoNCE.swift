/// InfoNCE of queries against their keys and a queue. He et al. 2019, arXiv:1911.05722, eq. 1 and Algorithm 1:
///
///     L_q = −log( exp(q·k₊/τ) / Σ_{i=0..Q} exp(q·k_i/τ) )
///
/// No gradient flows to keys or queue.
package struct InfoNCE {
  /// τ
  package let temperature: Float
  /// Factor on the loss.
  package let scale: Float

  /// The loss at a temperature.
  package init(temperature: Float, scale: Float = 1) {
    self.temperature = temperature
    self.scale = scale
  }

  /// - Parameters:
  ///   - q: (n, D) queries of this rank, not normalised; becomes their gradient.
  ///   - unit: the same, normalised.
  ///   - k: (n, D) their keys, normalised.
  ///   - queue: (Q, D), normalised.
  ///   - count: queries in the global batch; the loss is the mean over them.
  /// - Returns: the statistics over all ranks.
  package func apply(
    _ q: Tensor, _ unit: UnitRows, keys k: Tensor, queue: Tensor, count: Int, _ context: Context
  ) -> LossStatistics {
    precondition(q.hasShape(of: k) && queue.c == q.c, "queries \(q.shape), keys \(k.shape), queue \(queue.shape)")
    return context.scratch { arena in
      // Column 0 is the positive.
      let logits = arena.tensor(n: q.n, c: queue.n + 1)
      context.product(unit.rows, queue, into: logits, column: 1, alpha: 1 / temperature)
      var statistics = slopes(logits, unit.rows, keys: k, count: count, context)
      gradient(logits, keys: k, queue: queue, into: q, context)
      unit.backward(q, context)
      statistics.allReduce(context)
      statistics.loss *= Double(scale)
      return statistics
    }
  }

  /// Fills in the logits of the positives, then replaces all logits by the derivatives of the loss.
  private func slopes(
    _ logits: Tensor, _ unit: Tensor, keys k: Tensor, count: Int, _ context: Context
  ) -> LossStatistics {
    let d = unit.c
    let scale = scale / Float(count)
    return context.sum(rows: logits.n) { row in
      var positive = 0.0
      for i in 0..<d { positive += Double(unit.data[row * d + i]) * Double(k.data[row * d + i]) }
      let logit = logits.data + row * logits.c
      logit[0] = Float(positive / Double(temperature))
      return SoftmaxRow.apply(logit, count: logits.c, target: 0, temperature: temperature, scale: scale)
    }
  }

  private func gradient(
    _ slopes: Tensor, keys k: Tensor, queue: Tensor, into q: Tensor, _ context: Context
  ) {
    let d = q.c
    context.product(slopes, column: 1, plain: queue, into: q, alpha: 1 / temperature)
    context.run(q.n) { row, _ in
      let weight = slopes.data[row * slopes.c] / temperature
      for i in 0..<d { q.data[row * d + i] += weight * k.data[row * d + i] }
    }
  }
}
