import Foundation

/// Losses of class scores by their formulas, in Double, from softmax probabilities.
extension ReferenceLosses {
  /// exp(s_k/T) / Σ_j exp(s_j/T)
  private static func softmax(_ scores: [Double], temperature: Double = 1) -> [Double] {
    let powers = scores.map { exp($0 / temperature) }
    let sum = powers.reduce(0, +)
    return powers.map { $0 / sum }
  }

  /// A smoothed label is (1 − ε) at the class and ε/K everywhere; a class weighs what its weight says.
  static func crossEntropy(_ scores: Map, labels: [Int], smoothing: Double = 0, weights: [Double]? = nil) -> Double {
    let weights = weights ?? Array(repeating: 1, count: scores.c)
    let total = labels.reduce(0) { $0 + weights[$1] }
    var loss = 0.0
    for (row, label) in labels.enumerated() {
      for (k, p) in softmax(scores.row(row)).enumerated() {
        let target = smoothing / Double(scores.c) + (k == label ? 1 - smoothing : 0)
        loss -= weights[k] * target * log(p)
      }
    }
    return loss / total
  }

  /// - Parameters:
  ///   - labels: −1 for none.
  ///   - factor: f
  static func distillation(
    _ scores: Map, teacher: Map, labels: [Int], temperature: Double, alpha: Double, factor: Double
  ) -> Double {
    var soft = 0.0
    var hard = 0.0
    for (row, label) in labels.enumerated() {
      let q = softmax(teacher.row(row), temperature: temperature)
      let p = softmax(scores.row(row), temperature: temperature)
      soft -= zip(q, p).reduce(0) { $0 + $1.0 * log($1.1) }
      if label >= 0 { hard -= log(softmax(scores.row(row))[label]) }
    }
    return (alpha * factor * soft + (1 - alpha) * hard) / Double(labels.count)
  }
}
