import Shards

/// How long something lasts, in the unit that its author thinks in: `100 epochs`, `500 steps`, `50000 images`, `5%`.
package enum Length: Sendable, Equatable, CustomStringConvertible {
  case steps(Int)
  case epochs(Double)
  case images(Int)
  /// A share of the whole run.
  case percent(Double)

  package var description: String {
    switch self {
    case .steps(let n): "\(n) steps"
    case .epochs(let n): "\(n.formatted) epochs"
    case .images(let n): "\(n) images"
    case .percent(let n): "\(n.formatted)%"
    }
  }

  /// Reads `description`'s form; a bare number counts steps.
  package init?(_ text: String) {
    let text = text.trimmingPrefix(while: \.isWhitespace)
    let digits = text.prefix { $0.isNumber || $0 == "." || $0 == "_" }
    guard let value = Double(digits.replacing("_", with: "")), value >= 0, value.isFinite, value < 1e15 else {
      return nil
    }
    let unit = text.dropFirst(digits.count).filter { !$0.isWhitespace }
    switch unit {
    case "", "step", "steps":
      guard value == value.rounded() else { return nil }
      self = .steps(Int(value))
    case "epoch", "epochs": self = .epochs(value)
    case "image", "images":
      guard value == value.rounded() else { return nil }
      self = .images(Int(value))
    case "%": self = .percent(value)
    default: return nil
    }
  }

  /// Refuses to do something every 0 steps. What rounds to 0 steps, as a small share of a short run, is every step.
  func requireAboveZero(_ key: String) throws(RecipeError) {
    let isZero =
      switch self {
      case .steps(let n), .images(let n): n == 0
      case .epochs(let n), .percent(let n): n == 0
      }
    if isZero { throw RecipeError("`\(key)` is \(self); it must be above 0, such as 10 steps") }
  }

  /// Steps, rounded to the nearest.
  /// - Parameters:
  ///   - stepsPerEpoch: of the data set at this batch.
  ///   - batch: images of a global batch.
  ///   - total: steps of the run, for percentages.
  package func steps(stepsPerEpoch: Int, batch: Int, total: Int) -> Int {
    switch self {
    case .steps(let n): n
    case .epochs(let n): Int((n * Double(stepsPerEpoch)).rounded())
    case .images(let n): (n + batch / 2) / batch
    case .percent(let n): Int((n / 100 * Double(total)).rounded())
    }
  }
}

extension Length: Codable {
  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let steps = try? container.decode(Int.self), steps >= 0 {
      self = .steps(steps)
      return
    }
    let text = try container.decode(String.self)
    guard let length = Length(text) else {
      throw decoder.invalid("`\(text)` is no length; write it as `100 epochs`, `500 steps`, `50000 images` or `5%`")
    }
    self = length
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}

extension Double {
  /// Without a fraction where it has none.
  fileprivate var formatted: String { self == rounded() && abs(self) < 1e15 ? String(Int(self)) : String(self) }
}
