import Foundation

/// One row of a softmax cross-entropy, forward and backward.
enum SoftmaxRow {
  /// - Parameters:
  ///   - logits: `count` logits, overwritten by scale·(softmax − onehot).
  ///   - target: index of the positive.
  ///   - excluded: a candidate that does not take part (a row's similarity with itself); its gradient is 0.
  ///   - temperature: τ, by which the logits were divided.
  /// - Returns: the row's loss and similarities.
  static func apply(
    _ logits: UnsafeMutablePointer<Float>, count: Int, target: Int, excluded: Int? = nil, temperature: Float,
    scale: Float
  ) -> LossStatistics {
    var largest = -Float.infinity
    var sum = 0.0
    var total = 0.0
    let targetLogit = logits[target]
    for i in 0..<count where i != excluded {
      largest = max(largest, logits[i])
      total += Double(logits[i])
    }
    var row = LossStatistics()
    row.rows = 1
    row.correct = targetLogit >= largest ? 1 : 0
    row.positive = Double(targetLogit * temperature)
    let negatives = count - (excluded == nil ? 1 : 2)
    row.negative = negatives > 0 ? (total - Double(targetLogit)) / Double(negatives) * Double(temperature) : 0
    for i in 0..<count {
      let e = i == excluded ? 0 : exp(logits[i] - largest)
      sum += Double(e)
      logits[i] = e
    }
    row.loss = log(sum) + Double(largest) - Double(targetLogit)
    let factor = Float(Double(scale) / sum)
    for i in 0..<count { logits[i] *= factor }
    logits[target] -= scale
    return row
  }
}
