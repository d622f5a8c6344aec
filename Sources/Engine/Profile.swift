/// Seconds and arithmetic of every part of a step.
package final class Profile {
  package enum Part: String, CaseIterable, Sendable {
    case data, convolution, normalisation, pooling, head, loss, communication, update
  }

  /// Seconds of every part; a part inside another counts once, for the inner one.
  package private(set) var seconds: [Part: Double] = [:]
  /// Floating-point operations of every part, as the textbook counts them.
  package private(set) var operations: [Part: Double] = [:]
  private var inner = 0.0

  package init() {}

  package func measure<T>(_ part: Part, _ body: () throws -> T) rethrows -> T {
    let outer = inner
    inner = 0
    let start = ContinuousClock.now
    defer {
      let spent = (ContinuousClock.now - start).seconds
      seconds[part, default: 0] += spent - inner
      inner = outer + spent
    }
    return try body()
  }

  package func add(operations count: Double, to part: Part) { operations[part, default: 0] += count }
}

extension Duration {
  /// The duration as a number of seconds.
  package var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
