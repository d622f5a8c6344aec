/// Contribution of a rank's candidates to a query's softmax. The sum over ranks is that of all candidates.
struct CandidateSums: BitwiseCopyable {
  /// Number of candidates.
  var count = 0.0
  /// Σ exp((s − max)/τ).
  var sum = 0.0
  /// Σ s, where s is the similarity with a candidate.
  var scores = 0.0
  /// s of the positive, on the rank that has it; else 0.
  var positive = 0.0
  /// 1 if no candidate is more similar than the positive, on the rank that has the positive; else 0.
  var correct = 0.0
  /// Σ exp((s − max)/τ) over the keys of other queries.
  var inBatch = 0.0
  /// Σ exp((s − max)/τ′), where τ′ is the adversary's temperature.
  var sharper = 0.0

  static func allReduce(_ rows: UnsafeMutableBufferPointer<CandidateSums>, _ context: Context) {
    let doubles = UnsafeMutableRawBufferPointer(rows).bindMemory(to: Double.self)
    context.allReduce(doubles, on: .statistics, "sums over candidates")
  }

  /// The query's statistics.
  /// - loss: this query's loss.
  func statistics(loss: Double) -> LossStatistics {
    var row = LossStatistics()
    row.rows = 1
    row.loss = loss
    row.correct = correct
    row.positive = positive
    row.negative = count > 1 ? (scores - positive) / (count - 1) : 0
    return row
  }
}
