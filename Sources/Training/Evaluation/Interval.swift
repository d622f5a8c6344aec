/// A 95 % confidence interval of a proportion.
package struct Interval: Codable, Sendable, Equatable {
  package var low: Double
  package var high: Double

  package init(low: Double, high: Double) {
    self.low = low
    self.high = high
  }

  /// Wilson's score interval, which keeps its coverage near 0 and 1 and for few trials.
  ///
  /// Wilson: Probable Inference, the Law of Succession, and Statistical Inference (1927).
  /// - Returns: 0...1 where there are no trials.
  package static func wilson(_ correct: Int, of count: Int) -> Interval {
    precondition(0 <= correct && correct <= count, "\(correct) correct of \(count)")
    if count == 0 { return Interval(low: 0, high: 1) }
    let z = 1.959963984540054
    let n = Double(count)
    let p = Double(correct) / n
    let centre = p + z * z / (2 * n)
    let scale = 1 + z * z / n
    let reach = z * (p * (1 - p) / n + z * z / (4 * n * n)).squareRoot()
    // Rounding must not push the closed ends past what the formula gives there.
    return Interval(
      low: correct == 0 ? 0 : (centre - reach) / scale, high: correct == count ? 1 : (centre + reach) / scale)
  }
}
