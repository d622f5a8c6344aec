/// What a loss sums up over its rows. Divided by `rows` they are means; what a loss does not have stays 0.
///
/// The contract of every loss: each rank sums its own rows and divides by the *global* count; the gradient of a gather
/// is the sum over ranks; parameters' gradients are *summed* over ranks. So unequal local batches are right.
package struct LossStatistics: BitwiseCopyable, Equatable {
  /// Rows, over all ranks.
  package var rows = 0.0
  /// Σ of the rows' losses.
  package var loss = 0.0
  /// Rows whose positive is the most similar candidate.
  package var correct = 0.0
  /// Σ cosine similarity of the positives.
  package var positive = 0.0
  /// Σ cosine similarity of the rows' mean negatives.
  package var negative = 0.0

  package init() {}

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
  /// Runs `body` once for each row, spread over the threads, and sums what it returns in the order of the rows, so that
  /// the number of threads does not change a bit.
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
