/// What a rank's candidates add to a query's softmax; summed over ranks, what all of them do.
struct CandidateSums: BitwiseCopyable {
  /// Candidates.
  var count = 0.0
  /// Σ exp((s − max)/τ).
  var sum = 0.0
  /// Σ s, s the similarity with a candidate.
  var scores = 0.0
  /// s of the positive; 0 on ranks that do not have it.
  var positive = 0.0
  /// 1 where no candidate is more similar than the positive, on the rank that has it.
  var correct = 0.0
  /// Σ exp((s − max)/τ) over the keys of other queries.
  var inBatch = 0.0
  /// Σ exp((s − max)/τ′), τ′ the candidates' own temperature.
  var sharper = 0.0

  static func allReduce(_ rows: UnsafeMutableBufferPointer<CandidateSums>, _ context: Context) {
    let doubles = UnsafeMutableRawBufferPointer(rows).bindMemory(to: Double.self)
    context.allReduce(doubles, on: .statistics, "sums over candidates")
  }

  /// - loss: of this query.
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
