import Randomness

/// One operation of a view, as a recipe lists it: `{flip: 0.5}`.
///
/// Adding one is a file with a type that conforms to `Augmentation` and a row in `Operation.all`.
package protocol ViewOperation: Codable, Equatable, Sendable {
  /// The key in the recipe.
  static var name: String { get }
  /// Refuses what cannot work on views of this size and channel count, in words.
  /// - Returns: what is left out because it does nothing to such data; empty where all of it applies.
  func validate(size: Int, channels: Int) throws(RecipeError) -> [String]
}

/// An operation on the pixels of a view.
package protocol Augmentation: ViewOperation {
  /// Changes the canvas in place. All its randomness comes from `key`, so the result is a pure function of it.
  func apply(to canvas: Canvas, _ key: ViewKey)
  /// The operation with whatever it takes from the data set filled in.
  func resolved(mean: [Double], deviation: [Double]) -> any Augmentation
}

extension Augmentation {
  package func resolved(mean: [Double], deviation: [Double]) -> any Augmentation { self }
}

/// The operation that a view begins with: which part of the image it shows.
package protocol Framing: ViewOperation {
  var interpolation: Interpolation { get }
  /// The part of a width × height image that fills a view of size × size.
  func frame(width: Int, height: Int, size: Int, _ key: ViewKey) -> Frame
}

/// What a view's draws are keyed by.
package struct ViewKey: Sendable {
  package var seed: UInt64, epoch: Int, step: Int, sample: Int
  /// Index over all views of a sample, across groups.
  package var view: Int
  /// How many operations of the same name stand before this one in the recipe.
  package var occurrence: Int

  package init(seed: UInt64, epoch: Int, step: Int, sample: Int, view: Int, occurrence: Int = 0) {
    self.seed = seed
    self.epoch = epoch
    self.step = step
    self.sample = sample
    self.view = view
    self.occurrence = occurrence
  }

  /// Draws of this view of this sample.
  package func draws(_ purpose: Purpose) -> Draws {
    occurrence == 0
      ? Draws(seed: seed, purpose, UInt64(epoch), UInt64(sample), UInt64(view))
      : Draws(seed: seed, purpose, UInt64(epoch), UInt64(sample), UInt64(view), UInt64(occurrence))
  }

  /// Draws that all samples of a batch share, for this view.
  package func batchDraws(_ purpose: Purpose) -> Draws {
    Draws(seed: seed, purpose, .max, UInt64(step), UInt64(view), UInt64(occurrence))
  }
}

/// A row of the recipe's list: a mapping with one key, the operation's name.
package struct Operation: Codable, Equatable, Sendable {
  /// Every operation there is.
  package static let all: [any ViewOperation.Type] = [
    Crop.self, Centre.self, Flip.self, Colour.self, Grey.self, Blur.self, Solarise.self, Normalise.self,
  ]

  package let body: any ViewOperation
  package var name: String { type(of: body).name }

  package init(_ body: any ViewOperation) { self.body = body }

  package init(from decoder: any Swift.Decoder) throws {
    let container = try decoder.container(keyedBy: AnyKey.self)
    guard let key = container.allKeys.first, container.allKeys.count == 1 else {
      throw decoder.invalid(
        "an operation is one key and its values, such as `{flip: 0.5}`; found \(container.allKeys.count) keys")
    }
    guard let type = Operation.all.first(where: { $0.name == key.stringValue }) else {
      throw decoder.unknown(key.stringValue, known: Operation.all.map { $0.name }, of: "the list of operations")
    }
    func decode<T: ViewOperation>(_ type: T.Type) throws -> any ViewOperation {
      try container.decode(type, forKey: key)
    }
    body = try decode(type)
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: AnyKey.self)
    func encode<T: ViewOperation>(_ body: T) throws { try container.encode(body, forKey: AnyKey(T.name)) }
    try encode(body)
  }

  package static func == (a: Operation, b: Operation) -> Bool {
    func equal<T: ViewOperation>(_ x: T) -> Bool { x == b.body as? T }
    return equal(a.body)
  }
}

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
