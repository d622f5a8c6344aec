/// A range that a recipe writes as two numbers: `[0.08, 1]`.
package struct Bounds: Codable, Equatable, Sendable {
  package var low: Double, high: Double
  package var range: ClosedRange<Double> { low...high }

  package init(_ low: Double, _ high: Double) {
    self.low = low
    self.high = high
  }

  package init(from decoder: any Swift.Decoder) throws {
    let values = try [Double](from: decoder)
    guard values.count == 2, values[0] <= values[1] else {
      throw decoder.invalid("a range is two numbers, the smaller first, such as [0.1, 2]; found \(values)")
    }
    low = values[0]
    high = values[1]
  }

  package func encode(to encoder: any Encoder) throws { try [low, high].encode(to: encoder) }
}

/// Throws unless a recipe's number lies in a range.
func require(_ what: String, _ value: Double, in range: ClosedRange<Double>) throws(RecipeError) {
  guard range.contains(value) else {
    throw RecipeError("\(what) is \(value); expected \(range.lowerBound) to \(range.upperBound)")
  }
}
