import Foundation

/// Contrast of queries with rows drawn from a bank whose rows are distributed over the ranks. Wu et al. 2018,
/// Unsupervised Feature Learning via Non-Parametric Instance Discrimination, arXiv:1805.01978; reference
/// zhirongw/lemniscate.pytorch.
///
/// Candidate 0 of a query is its image's own row v₀. The K others are drawn with replacement and may include v₀.
///
///     nce      P_c = exp(q·v_c/τ)/Z,  L = −log P₀/(P₀ + K/N + ε) − Σ_c log (K/N)/(P_c + K/N + ε),  ε = 10⁻⁷  (eq. 7)
///     softmax  L = −log( exp(q·v₀/τ) / Σ_c exp(q·v_c/τ) )
///
/// No gradient flows to the bank, nor to Z.
package struct DrawnContrast {
  /// The form of the loss.
  package enum Loss: String, Codable, Sendable, CaseIterable { case nce, softmax }

  /// The form of the loss.
  package let loss: Loss
  /// τ
  package let temperature: Float
  /// N, rows of the whole bank.
  package let images: Int
  static let epsilon = 1e-7

  /// The loss for a bank of so many rows.
  package init(_ loss: Loss, temperature: Float, images: Int) {
    self.loss = loss
    self.temperature = temperature
    self.images = images
  }

  /// A rank's rows of the bank.
  package struct Bank {
    /// (rows here, D)
    package let values: Tensor
    /// Their indices in the whole bank.
    package let rows: Range<Int>

    /// The rows of this rank.
    package init(_ values: Tensor, rows: Range<Int>) {
      precondition(values.n == rows.count, "\(values.n) rows of a bank for \(rows)")
      self.values = values
      self.rows = rows
    }
  }

  /// - Parameters:
  ///   - q: (n, D) this rank's queries, not normalised; becomes this rank's part of the gradient.
  ///   - queries: the normalised queries of all ranks.
  ///   - drawn: (B, 1 + K) indices of rows of the bank, the same on every rank.
  ///   - count: 1 + K.
  ///   - z: Z of NCE. If it is 0, it is estimated from these queries as N times the mean of exp(q·v/τ).
  /// - Returns: the statistics over all ranks, and Z.
  package func apply(
    _ q: Tensor, _ queries: GatheredQueries, _ bank: Bank, drawn: UnsafePointer<Int64>, count: Int, z: Float,
    _ context: Context
  ) -> (statistics: LossStatistics, z: Float) {
    context.scratch { arena in
      let step = Step(self, queries, bank, drawn: drawn, count: count, in: arena, context)
      step.score()
      step.sumUp()
      let z = z == 0 && loss == .nce ? step.partition() : z
      step.differentiate(z: z)
      step.gradient()
      queries.backward(into: q, context)
      return (step.statistics(), z)
    }
  }

  /// The passes of one application. A row is a query of the global batch, a column one of its candidates.
  private struct Step {
    let loss: DrawnContrast
    let queries: GatheredQueries
    let bank: Bank
    let drawn: UnsafePointer<Int64>
    let count: Int
    let context: Context
    let batch: Int
    let d: Int
    /// (B, 1 + K): similarities of candidates on this rank; later the derivatives of the loss by them.
    let scores: Tensor
    /// The largest similarity of every query, over all ranks.
    let maxima: UnsafeMutableBufferPointer<Float>
    /// Sums over the candidates of every query, over all ranks.
    let sums: UnsafeMutableBufferPointer<CandidateSums>
    /// NCE's loss of every query, over all ranks.
    let terms: UnsafeMutableBufferPointer<Double>

    init(
      _ loss: DrawnContrast, _ queries: GatheredQueries, _ bank: Bank, drawn: UnsafePointer<Int64>, count: Int,
      in arena: Arena, _ context: Context
    ) {
      precondition(bank.values.c == queries.all.c, "queries of \(queries.all.c), a bank of \(bank.values.c)")
      self.loss = loss
      self.queries = queries
      self.bank = bank
      self.drawn = drawn
      self.count = count
      self.context = context
      batch = queries.all.n
      d = queries.all.c
      scores = arena.tensor(n: batch, c: count)
      maxima = arena.array(of: Float.self, count: batch)
      sums = arena.array(of: CandidateSums.self, count: batch)
      terms = arena.array(of: Double.self, count: batch)
    }

    private var temperature: Float { loss.temperature }

    /// Index in this rank's rows of a query's candidate; nil if another rank has it.
    @inline(__always) private func place(_ query: Int, _ candidate: Int) -> Int? {
      let row = Int(drawn[query * count + candidate])
      return bank.rows.contains(row) ? row - bank.rows.lowerBound : nil
    }

    /// Computes the similarities, and the largest of every query.
    func score() {
      context.run(batch) { i, _ in
        let x = UnsafePointer(queries.all.data + i * d)
        let s = scores.data + i * count
        var largest = -Float.infinity
        for c in 0..<count {
          guard let row = place(i, c) else { continue }
          s[c] = x.dot(bank.values.data + row * d, count: d)
          largest = max(largest, s[c])
        }
        maxima[i] = largest
      }
      context.allReduce(maxima, .max, on: .statistics, "maxima over candidates")
    }

    func sumUp() {
      context.run(batch) { i, _ in
        let s = scores.data + i * count
        let largest = maxima[i]
        var row = CandidateSums()
        for c in 0..<count where place(i, c) != nil {
          row.count += 1
          row.sum += Double(exp((s[c] - largest) / temperature))
          row.scores += Double(s[c])
        }
        if place(i, 0) != nil {
          row.positive = Double(s[0])
          row.correct = s[0] >= largest ? 1 : 0
        }
        sums[i] = row
      }
      CandidateSums.allReduce(sums, context)
    }

    /// Estimate of Z: N times the mean of exp(q·v/τ) over all queries and their candidates.
    func partition() -> Float {
      var sum = 0.0
      context.run(1) { _, _ in
        for i in sums.indices { sum += sums[i].sum * exp(Double(maxima[i]) / Double(temperature)) }
      }
      return Float(sum / Double(sums.count * count) * Double(loss.images))
    }

    /// Replaces every score by the derivative of the loss. For NCE also sums the terms of the loss, each on the rank
    /// that has the candidate.
    func differentiate(z: Float) {
      let scale = 1 / Double(batch)
      context.run(batch) { i, _ in
        let s = scores.data + i * count
        var sum = 0.0
        for c in 0..<count where place(i, c) != nil {
          let slope: Double
          switch loss.loss {
          case .softmax: slope = softmaxSlope(s[c], query: i, isPositive: c == 0)
          case .nce:
            let (value, term) = noiseContrast(s[c], z: z, isPositive: c == 0)
            slope = value
            sum -= term
          }
          s[c] = Float(slope * scale / Double(temperature))
        }
        terms[i] = sum
      }
      if loss.loss == .nce { context.allReduce(terms, on: .statistics, "terms of the loss") }
    }

    @inline(__always) private func softmaxSlope(_ s: Float, query i: Int, isPositive: Bool) -> Double {
      Double(exp((s - maxima[i]) / temperature)) / sums[i].sum - (isPositive ? 1 : 0)
    }

    /// τ times the derivative by the score, and the logarithm in the loss (eq. 7), whose negative is summed.
    @inline(__always) private func noiseContrast(
      _ s: Float, z: Float, isPositive: Bool
    ) -> (slope: Double, term: Double) {
      let noise = Double(count - 1) / Double(loss.images)
      let epsilon = DrawnContrast.epsilon
      let p = exp(Double(s) / Double(temperature)) / Double(z)
      let all = p + noise + epsilon
      return isPositive ? (-(noise + epsilon) / all, log(p / all)) : (p / all, log(noise / all))
    }

    /// Gradient of the queries from this rank's candidates.
    func gradient() {
      context.run(batch) { i, _ in
        let gradient = queries.gradient.data + i * d
        let s = scores.data + i * count
        for j in 0..<d { gradient[j] = 0 }
        for c in 0..<count {
          if let row = place(i, c) { gradient.add(bank.values.data + row * d, times: s[c], count: d) }
        }
      }
    }

    func statistics() -> LossStatistics {
      var statistics = LossStatistics()
      context.run(1) { _, _ in
        for i in 0..<batch {
          let row = sums[i]
          let softmax = log(row.sum) + (Double(maxima[i]) - row.positive) / Double(temperature)
          statistics.add(row.statistics(loss: loss.loss == .nce ? terms[i] : softmax))
        }
      }
      return statistics
    }
  }
}
