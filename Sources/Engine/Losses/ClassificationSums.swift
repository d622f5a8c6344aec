/// Sums of a classification's rows; divided by `rows` they are means. The contract is that of `LossStatistics`.
package struct ClassificationSums: RowSums, Equatable {
  /// Number of rows.
  package var rows = 0.0
  /// The loss: each row's part of the global batch's mean.
  package var loss = 0.0
  /// Number of rows with a label, and of those whose largest score is the label's.
  package var labelled = 0.0, correct = 0.0
  /// Number of rows whose largest score is the teacher's.
  package var agreeing = 0.0

  /// All sums 0.
  package init() {}

  package mutating func add(_ other: ClassificationSums) {
    rows += other.rows
    loss += other.loss
    labelled += other.labelled
    correct += other.correct
    agreeing += other.agreeing
  }
}
