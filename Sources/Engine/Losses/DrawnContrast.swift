import Foundation

/// Queries against rows that are drawn from a bank, which is spread over ranks by row. Wu et al. 2018, Unsupervised
/// Feature Learning via Non-Parametric Instance Discrimination, arXiv:1805.01978; reference zhirongw/lemniscate.pytorch.
///
/// Candidate 0 of a query is its image's own row v₀, the K others are drawn and may repeat, or be that row too.
///
///     nce      P_c = exp(q·v_c/τ)/Z,  L = −log P₀/(P₀ + K/N + ε) − Σ_c log (K/N)/(P_c + K/N + ε),  ε = 10⁻⁷  (eq. 7)
///     softmax  L = −log( exp(q·v₀/τ) / Σ_c exp(q·v_c/τ) )
///
/// No gradient flows to the bank, nor to Z.
package struct DrawnContrast {
  package enum Loss: String, Codable, Sendable, CaseIterable { case nce, softmax }

  package let loss: Loss
  package let temperature: Float
  /// N, rows of the whole bank.
  package let images: Int
  static let epsilon = 1e-7

  package init(_ loss: Loss, temperature: Float, images: Int) {
    self.loss = loss
    self.temperature = temperature
    self.images = images
  }

  /// A rank's rows of the bank.
  package struct Bank {
    /// (rows here, D)
    package let values: Tensor
    /// Which they are.
    package let rows: Range<Int>

    package init(_ values: Tensor, rows: Range<Int>) {
      precondition(values.n == rows.count, "\(values.n) rows of a bank for \(rows)")
      self.values = values
      self.rows = rows
    }
  }

  /// - Parameters:
  ///   - q: (n, D) this rank's queries, not normalised; becomes this rank's part of the gradient.
  ///   - queries: the same of all ranks.
  ///   - drawn: (B, 1 + K) rows of the bank, the same on every rank.
  ///   - count: 1 + K.
  ///   - z: Z of NCE; where it is 0, it is estimated from these queries: N times the mean of exp(q·v/τ).
  /// - Returns: the statistics over all ranks, and Z.
  package func apply(
    _ q: Tensor, _ queries: GatheredQueries, _ bank: Bank, drawn: UnsafePointer<Int64>, count: Int, z: Float,
    _ context: Context
  ) -> (statistics: ContrastiveStatistics, z: Float) {
    let batch = queries.all.n
    let d = q.c
    let scale = 1 / Double(batch)
    precondition(bank.values.c == d, "queries of \(d), a bank of \(bank.values.c)")
    return context.scratch { arena in
      let scores = arena.tensor(n: batch, c: count)
      let rows = arena.array(of: CandidateSums.self, count: batch)
      let maxima = arena.array(of: Float.self, count: batch)
      /// The place here of a query's candidate; nil where another rank has it.
      @inline(__always) func place(_ i: Int, _ c: Int) -> Int? {
        let row = Int(drawn[i * count + c])
        return bank.rows.contains(row) ? row - bank.rows.lowerBound : nil
      }

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

      context.run(batch) { i, _ in
        let s = scores.data + i * count
        let largest = maxima[i]
        var row = CandidateSums()
        for c in 0..<count where place(i, c) != nil {
          row.count += 1
          row.sum += Double(exp((s[c] - largest) / temperature))
          row.scores += Double(s[c])
        }
        if place(i, 0) != nil { (row.positive, row.correct) = (Double(s[0]), s[0] >= largest ? 1 : 0) }
        rows[i] = row
      }
      CandidateSums.allReduce(rows, context)
      let z = z == 0 && loss == .nce ? partition(maxima, rows, count: count, context) : z

      // Every score becomes its derivative; of NCE also the loss's terms, each on the rank that has the candidate.
      let noise = Double(count - 1) / Double(images)
      let epsilon = Self.epsilon
      let terms = arena.array(of: Double.self, count: batch)
      context.run(batch) { i, _ in
        let s = scores.data + i * count
        let largest = maxima[i]
        var sum = 0.0
        for c in 0..<count where place(i, c) != nil {
          var slope: Double
          switch loss {
          case .softmax:
            slope = Double(exp((s[c] - largest) / temperature)) / rows[i].sum - (c == 0 ? 1 : 0)
          case .nce:
            let p = exp(Double(s[c]) / Double(temperature)) / Double(z)
            let all = p + noise + epsilon
            slope = c == 0 ? -(noise + epsilon) / all : p / all
            sum -= log((c == 0 ? p : noise) / all)
          }
          s[c] = Float(slope * scale / Double(temperature))
        }
        terms[i] = sum
      }
      if loss == .nce { context.allReduce(terms, on: .statistics, "terms of the loss") }

      context.run(batch) { i, _ in
        let gradient = queries.gradient.data + i * d
        let s = scores.data + i * count
        for j in 0..<d { gradient[j] = 0 }
        for c in 0..<count {
          if let row = place(i, c) { gradient.add(bank.values.data + row * d, times: s[c], count: d) }
        }
      }
      queries.backward(into: q, context)

      var statistics = ContrastiveStatistics()
      context.run(1) { _, _ in
        for i in 0..<batch {
          let row = rows[i]
          let softmax = log(row.sum) + (Double(maxima[i]) - row.positive) / Double(temperature)
          statistics.add(row.statistics(loss: loss == .nce ? terms[i] : softmax))
        }
      }
      return (statistics, z)
    }
  }

  /// N · mean of exp(q·v/τ) over all queries and their candidates.
  private func partition(
    _ maxima: UnsafeMutableBufferPointer<Float>, _ rows: UnsafeMutableBufferPointer<CandidateSums>, count: Int,
    _ context: Context
  ) -> Float {
    var sum = 0.0
    context.run(1) { _, _ in
      for i in rows.indices { sum += rows[i].sum * exp(Double(maxima[i]) / Double(temperature)) }
    }
    return Float(sum / Double(rows.count * count) * Double(images))
  }
}
