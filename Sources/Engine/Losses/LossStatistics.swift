/// Sums of a loss over its rows; divided by `rows` they are means. Sums that a loss does not have stay 0.
///
/// The contract of every loss: each rank sums its own rows and divides by the *global* count; the gradient of a gather
/// is the sum over ranks; gradients of parameters are *summed* over ranks. So local batches may have unequal sizes.
package struct LossStatistics: RowSums, Equatable {
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
}
