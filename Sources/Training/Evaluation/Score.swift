import Shards

/// A figure that an evaluation gives.
package struct Score: Codable, Sendable, Equatable {
  package enum Unit: String, Codable, Sendable {
    /// A share, 0 ... 1, shown in per cent.
    case share = "%"
    /// A number, shown as it is.
    case number = ""
  }

  /// Such as `top-1`, `recall@10`, `R²`.
  package var name: String
  package var value: Double
  package var unit: Unit
  /// A 95 % confidence interval, where there is one.
  package var interval: Interval?
  /// For a share that was counted: so many of so many.
  package var hits: Int?, trials: Int?

  package init(_ name: String, _ value: Double, unit: Unit = .number, interval: Interval? = nil) {
    self.name = name
    self.value = value
    self.unit = unit
    self.interval = interval
  }

  /// A share that was counted, with Wilson's interval.
  package init(_ name: String, hits: Int, of trials: Int) {
    self.init(name, Double(hits) / Double(trials), unit: .share, interval: .wilson(hits, of: trials))
    self.hits = hits
    self.trials = trials
  }

  /// Such as `87.12 %` or `0.4123`.
  package var text: String { words(value) + (unit == .share ? " %" : "") }

  /// Such as `[86.45, 87.76]`.
  package var intervalText: String? { interval.map { "[\(words($0.low)), \(words($0.high))]" } }

  /// A value in the score's unit, without the unit's sign.
  package func words(_ value: Double) -> String { unit == .share ? percent(value) : significant(value) }

  /// A value as an axis shows it.
  package func plotted(_ value: Double) -> Double { unit == .share ? value * 100 : value }
}
