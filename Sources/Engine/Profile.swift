/// Seconds and work of every part of a step, and of every layer.
package final class Profile {
  package enum Part: String, CaseIterable, Sendable {
    /// Convolutions by the way they are computed.
    case winograd, pointwise, lowered
    case normalisation, pooling, head, loss, communication, update

    /// What limits the part at best.
    package var roof: Roof {
      switch self {
      case .winograd: .winograd
      case .pointwise, .lowered: .arithmetic
      case .normalisation, .pooling, .update: .memory
      case .head, .loss, .communication: .none
      }
    }
  }

  /// A limit of the machine that a part's work is compared with.
  package enum Roof: Sendable { case arithmetic, winograd, memory, none }

  package struct Sum: Sendable {
    package var seconds = 0.0
    /// Floating-point operations of a direct convolution, whatever the algorithm: a multiplication and an addition a
    /// tap.
    package var operations = 0.0
    /// The least number of bytes that move between memory and the processor.
    package var bytes = 0.0

    package init(seconds: Double = 0, operations: Double = 0, bytes: Double = 0) {
      self.seconds = seconds
      self.operations = operations
      self.bytes = bytes
    }

    package var gflops: Double { operations / seconds * 1e-9 }
    package var gigabytes: Double { bytes / seconds * 1e-9 }

    package static func / (sum: Sum, count: Double) -> Sum {
      Sum(seconds: sum.seconds / count, operations: sum.operations / count, bytes: sum.bytes / count)
    }

    mutating func add(_ other: Sum) {
      seconds += other.seconds
      operations += other.operations
      bytes += other.bytes
    }
  }

  /// The time of a part inside another one counts for the inner one alone.
  package private(set) var parts: [Part: Sum] = [:]
  /// Name, sum and part of every layer and direction, in the order in which they first ran.
  package private(set) var layers: [(name: String, part: Part, sum: Sum)] = []
  private var places: [String: Int] = [:]
  private var inner = 0.0

  package init() {}

  package func measure<T>(
    _ part: Part, operations: Double, bytes: Int, _ layer: () -> String?, _ body: () throws -> T
  ) rethrows -> T {
    let outer = inner
    inner = 0
    let start = ContinuousClock.now
    defer {
      let spent = (ContinuousClock.now - start).seconds
      let sum = Sum(seconds: spent - inner, operations: operations, bytes: Double(bytes))
      parts[part, default: Sum()].add(sum)
      if let name = layer() { add(sum, to: name, part) }
      inner = outer + spent
    }
    return try body()
  }

  private func add(_ sum: Sum, to layer: String, _ part: Part) {
    if let place = places[layer] {
      layers[place].sum.add(sum)
    } else {
      places[layer] = layers.count
      layers.append((layer, part, sum))
    }
  }
}
