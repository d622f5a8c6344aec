/// Sums of a loss over its rows; divided by `rows` they are means. Sums that a loss does not have stay 0.
///
/// The contract of every loss: each rank sums its own rows and divides by the *global* count; the gradient of a gather
/// is the sum over ranks; gradients of parameters are *summed* over ranks. So local batches may have unequal sizes.
package struct LossStatistics: BitwiseCopyable, Equatable {
  /// Number of rows.
  package var rows = 0.0
  /// Σ of the rows' losses.
  package var loss = 0.0
  /// Number of rows whose positive is the most similar candidate.
  package var correct = 0.0
  /// Σ of the positives' cosine similarities.
  package var positive = 0.0
  /// Σ of the rows' mean cosine similarities with their negatives.
  package var negative = 0.0

  /// All sums 0.
  package init() {}

  /// Adds the sums of other rows.
  package mutating func add(_ other: LossStatistics) {
    rows += other.rows
    loss += other.loss
    correct += other.correct
    positive += other.positive
    negative += other.negative
  }

  /// Sums over ranks.
  mutating func allReduce(_ context: Context) {
    withUnsafeMutableBytes(of: &self) {
      context.allReduce($0.bindMemory(to: Double.self), on: .statistics, "loss")
    }
  }
}

extension Context {
  /// Runs `body` once for each row on all threads and adds the results in the order of the rows, so that the number of
  /// threads does not change a bit.
  func sum(rows: Int, _ body: (_ row: Int) -> LossStatistics) -> LossStatistics {
    scratch { arena in
      let statistics = arena.array(of: LossStatistics.self, count: max(1, rows))
      var sum = LossStatistics()
      run(rows) { row, _ in statistics[row] = body(row) }
      run(1) { _, _ in for row in 0..<rows { sum.add(statistics[row]) } }
      return sum
    }
  }
}
