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

/// One row of a softmax cross-entropy: turns logits into their gradient.
enum SoftmaxRow {
  /// - Parameters:
  ///   - logits: `count` logits, overwritten by scale·(softmax − onehot).
  ///   - target: the right candidate.
  ///   - excluded: a candidate that does not take part (a row's similarity with itself); its gradient is 0.
  ///   - temperature: that the logits were divided by.
  /// - Returns: the row's loss and similarities.
  static func apply(
    _ logits: UnsafeMutablePointer<Float>, count: Int, target: Int, excluded: Int? = nil, temperature: Float,
    scale: Float
  ) -> ContrastiveStatistics {
    var largest = -Float.infinity
    var sum = 0.0
    var total = 0.0
    let targetLogit = logits[target]
    for i in 0..<count where i != excluded {
      largest = max(largest, logits[i])
      total += Double(logits[i])
    }
    var row = ContrastiveStatistics()
    row.rows = 1
    row.correct = targetLogit >= largest ? 1 : 0
    row.positive = Double(targetLogit * temperature)
    let negatives = count - (excluded == nil ? 1 : 2)
    row.negative = negatives > 0 ? (total - Double(targetLogit)) / Double(negatives) * Double(temperature) : 0
    for i in 0..<count {
      let e = i == excluded ? 0 : exponential(logits[i] - largest)
      sum += Double(e)
      logits[i] = e
    }
    row.loss = logarithm(sum) + Double(largest) - Double(targetLogit)
    let factor = Float(Double(scale) / sum)
    for i in 0..<count { logits[i] *= factor }
    logits[target] -= scale
    return row
  }
}
