/// Sums that a contrastive loss takes along, over all rows and ranks. Divided by `rows` they are means.
///
/// The contract of every loss: each rank sums its own rows and divides by the *global* count; the gradient of a gather
/// is the sum over ranks; parameters' gradients are *summed* over ranks. So unequal local batches are right.
package struct ContrastiveStatistics: BitwiseCopyable, Equatable {
  /// Rows, over all ranks.
  package var rows = 0.0
  /// Σ of the rows' losses.
  package var loss = 0.0
  /// Rows whose positive is the most similar candidate. NaN where there is nothing to choose from.
  package var correct = 0.0
  /// Σ cosine similarity of the positives, and of the mean negative. NaN where there are none.
  package var positive = 0.0, negative = 0.0

  package init() {}

  package mutating func add(_ other: ContrastiveStatistics) {
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
