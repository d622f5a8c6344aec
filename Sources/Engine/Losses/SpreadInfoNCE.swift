import Foundation

/// InfoNCE over candidates that are distributed over the ranks: keys of the batch and rows of a bank.
///
///     L_i = −log( exp(s_i₊/τ) / Σ_j exp(s_ij/τ) ),   s_ij = q_i·c_j
///
/// Without keys, and with a query's own row of the bank as the positive, it is the non-parametric softmax of Wu et al.
/// 2018, arXiv:1805.01978, eq. 2. With keys and learned negatives, which have their own gradient, it is the loss of
/// AdCo, Hu et al. 2020, arXiv:2011.08435.
package struct SpreadInfoNCE {
  /// τ
  package let temperature: Float

  /// The loss at a temperature.
  package init(temperature: Float) { self.temperature = temperature }

  /// A rank's candidates.
  package struct Candidates {
    /// (M, D): the keys of this rank's queries, if any, then its rows of the bank.
    package let rows: Tensor
    /// How many of the rows are keys.
    package let keys: Int
    /// Whether the keys of other queries are negatives.
    package let otherKeys: Bool
    /// Row of the positive of every query in the global batch; -1 if another rank has it.
    package let targets: UnsafeMutableBufferPointer<Int32>

    /// The candidates of this rank.
    package init(_ rows: Tensor, keys: Int, otherKeys: Bool, targets: UnsafeMutableBufferPointer<Int32>) {
      self.rows = rows
      self.keys = keys
      self.otherKeys = otherKeys
      self.targets = targets
    }
  }

  /// Training of the bank's rows against the queries.
  package struct Adversary {
    /// τ′, the temperature of the bank's loss.
    package let temperature: Float
    /// (rows of the bank here, D): the gradient of the normalised rows is added to it.
    package let gradient: Tensor

    /// An adversary with its temperature.
    package init(temperature: Float, gradient: Tensor) {
      self.temperature = temperature
      self.gradient = gradient
    }
  }

  /// - Parameters:
  ///   - q: (n, D) this rank's queries, not normalised; becomes their gradient.
  ///   - queries: the normalised queries of all ranks.
  ///   - weight: factor on all gradients, not on the loss, which is the mean over the global batch's queries.
  /// - Returns: the statistics over all ranks, and Σ over queries of the probability of other queries' keys.
  package func apply(
    _ q: Tensor, _ queries: GatheredQueries, _ candidates: Candidates, weight: Float = 1, adversary: Adversary? = nil,
    _ context: Context
  ) -> (statistics: LossStatistics, inBatch: Double) {
    context.scratch { arena in
      let step = Step(self, queries, candidates, sharper: adversary?.temperature, in: arena, context)
      step.score()
      step.findMaxima()
      step.exponentiate()
      let scale = weight / Float(queries.all.n)
      step.differentiate(scale: scale)
      queries.backward(into: q, context)
      if let adversary { step.climb(adversary, scale: scale) }
      return step.statistics()
    }
  }

  /// The passes of one application. A row is a query of the global batch, a column a candidate of this rank.
  private struct Step {
    let temperature: Float
    let queries: GatheredQueries
    let candidates: Candidates
    /// The adversary's temperature.
    let sharper: Float?
    let context: Context
    let batch: Int
    /// M, the number of columns.
    let m: Int
    /// (B, M): similarities.
    let scores: Tensor
    /// (B, M): exp((s − max)/τ); later the derivatives of the loss by the scores.
    let p: Tensor
    /// The largest similarity of every query, over all ranks.
    let maxima: UnsafeMutableBufferPointer<Float>
    /// Sums over the candidates of every query, over all ranks.
    let sums: UnsafeMutableBufferPointer<CandidateSums>

    init(
      _ loss: SpreadInfoNCE, _ queries: GatheredQueries, _ candidates: Candidates, sharper: Float?, in arena: Arena,
      _ context: Context
    ) {
      batch = queries.all.n
      m = candidates.rows.n
      precondition(
        candidates.targets.count == batch && candidates.rows.c == queries.all.c && candidates.keys <= m,
        "\(batch) queries of \(queries.all.c), \(candidates.targets.count) targets, candidates "
          + "\(candidates.rows.shape), \(candidates.keys) of them keys")
      temperature = loss.temperature
      self.queries = queries
      self.candidates = candidates
      self.sharper = sharper
      self.context = context
      scores = arena.tensor(n: batch, c: m)
      p = arena.tensor(like: scores)
      maxima = arena.array(of: Float.self, count: batch)
      sums = arena.array(of: CandidateSums.self, count: batch)
    }

    /// Whether a candidate takes part in the softmax of the query whose positive is `target`.
    @inline(__always) private func counts(_ candidate: Int, target: Int) -> Bool {
      candidate >= candidates.keys || candidates.otherKeys || candidate == target
    }

    func score() {
      if m > 0 { context.product(queries.all, candidates.rows, into: scores) }
    }

    func findMaxima() {
      context.run(batch) { i, _ in
        let s = scores.data + i * m
        let target = Int(candidates.targets[i])
        var largest = -Float.infinity
        for j in 0..<m where counts(j, target: target) { largest = max(largest, s[j]) }
        maxima[i] = largest
      }
      context.allReduce(maxima, .max, on: .statistics, "maxima over candidates")
    }

    func exponentiate() {
      context.run(batch) { i, _ in sums[i] = exponentiate(query: i) }
      CandidateSums.allReduce(sums, context)
    }

    private func exponentiate(query i: Int) -> CandidateSums {
      let s = scores.data + i * m
      let e = p.data + i * m
      let largest = maxima[i]
      let target = Int(candidates.targets[i])
      var row = CandidateSums()
      for j in 0..<m {
        guard counts(j, target: target) else {
          e[j] = 0
          continue
        }
        e[j] = exp((s[j] - largest) / temperature)
        row.count += 1
        row.sum += Double(e[j])
        row.scores += Double(s[j])
        if j < candidates.keys, j != target { row.inBatch += Double(e[j]) }
        if let sharper { row.sharper += Double(exp((s[j] - largest) / sharper)) }
      }
      if target >= 0 {
        row.positive = Double(s[target])
        row.correct = s[target] >= largest ? 1 : 0
      }
      return row
    }

    /// ∂L/∂s = (p − onehot)/τ, and from it this rank's part of the queries' gradient.
    func differentiate(scale: Float) {
      context.run(batch) { i, _ in
        let e = p.data + i * m
        let factor = Float(Double(scale) / Double(temperature) / sums[i].sum)
        let target = Int(candidates.targets[i])
        for j in 0..<m { e[j] *= factor }
        if target >= 0 { e[target] -= scale / temperature }
      }
      if m > 0 {
        context.product(p, plain: candidates.rows, into: queries.gradient)
      } else {
        context.run(1) { _, _ in queries.gradient.buffer.update(repeating: 0) }
      }
    }

    /// ∂L/∂ŵ_k = 1/τ′ · 1/B Σ_i p_ik q_i, with p at τ′. Every rank has all queries, so no communication is needed.
    func climb(_ adversary: Adversary, scale: Float) {
      let keys = candidates.keys
      let d = queries.all.c
      let gradient = adversary.gradient
      precondition(
        gradient.n == m - keys && gradient.c == d, "a gradient \(gradient.shape) of \(m - keys) rows of \(d)")
      context.run(batch) { i, _ in
        let s = scores.data + i * m
        let factor = Float(Double(scale) / Double(adversary.temperature) / sums[i].sharper)
        for j in keys..<m { s[j] = factor * exp((s[j] - maxima[i]) / adversary.temperature) }
      }
      context.blocks(of: gradient.n) { row, count in
        sgemm(
          count, d, batch, scores.data + keys + row, lda: m, transposed: true, queries.all.data, ldb: d,
          into: gradient.data + row * d, ldc: d, beta: 1)
      }
    }

    func statistics() -> (statistics: LossStatistics, inBatch: Double) {
      var statistics = LossStatistics()
      var inBatch = 0.0
      context.run(1) { _, _ in
        for i in 0..<batch {
          let row = sums[i]
          let loss = log(row.sum) + (Double(maxima[i]) - row.positive) / Double(temperature)
          statistics.add(row.statistics(loss: loss))
          inBatch += row.inBatch / row.sum
        }
      }
      return (statistics, inBatch)
    }
  }
}
