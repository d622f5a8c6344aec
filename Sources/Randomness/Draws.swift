import Foundation

/// The purpose of a stream of draws. Streams of different purposes are independent.
package enum Purpose: UInt64, CaseIterable, Sendable {
  case order = 1
  case split, crop, flip, colour, grey, blur, solarise, initialisation, shuffle, queue, probe, check
  case bank, negatives
  case rotate, tiles
  case labels, validation
}

/// A stream of random draws that is a pure function of its key. There is no state to save: the same key gives the
/// same draws on any rank, on any thread and after any resume.
///
///     var draws = Draws(seed: 1, .crop, epoch, sample, view)
///     let area = draws.uniform(in: 0.08...1)
package struct Draws: Sendable {
  private let key: SIMD2<UInt32>
  private var counter: UInt64 = 0
  private var buffer = SIMD4<UInt32>()
  private var left = 0

  /// - Parameters:
  ///   - seed: the run's seed.
  ///   - purpose: what the draws decide.
  ///   - a, b, c, d: the rest of the key, such as epoch, sample and view.
  package init(
    seed: UInt64, _ purpose: Purpose, _ a: UInt64? = nil, _ b: UInt64? = nil, _ c: UInt64? = nil, _ d: UInt64? = nil
  ) {
    // Not an array, because that would be allocated, and streams are made on threads that must not allocate.
    var mixed = Philox.mix(Philox.mix(Philox.start, seed), purpose.rawValue)
    if let a { mixed = Philox.mix(mixed, a) }
    if let b { mixed = Philox.mix(mixed, b) }
    if let c { mixed = Philox.mix(mixed, c) }
    if let d { mixed = Philox.mix(mixed, d) }
    key = SIMD2(UInt32(truncatingIfNeeded: mixed), UInt32(truncatingIfNeeded: mixed >> 32))
  }

  /// A stream keyed by a name, such as a parameter's.
  package init(seed: UInt64, _ purpose: Purpose, named name: String) {
    self.init(seed: seed, purpose, Philox.mix(name.utf8.map(UInt64.init)))
  }

  /// 32 random bits.
  package mutating func bits() -> UInt32 {
    if left == 0 {
      buffer = Philox.block(
        SIMD4(UInt32(truncatingIfNeeded: counter), UInt32(truncatingIfNeeded: counter >> 32), 0, 0), key: key)
      counter &+= 1
      left = 4
    }
    left -= 1
    return buffer[3 - left]
  }

  /// Uniform in [0, 1), a multiple of 2⁻⁵³.
  package mutating func uniform() -> Double {
    let high = UInt64(bits())
    let low = UInt64(bits())
    return Double((high << 32 | low) >> 11) * 0x1p-53
  }

  /// Uniform between the bounds.
  package mutating func uniform(in range: ClosedRange<Double>) -> Double {
    range.lowerBound + (range.upperBound - range.lowerBound) * uniform()
  }

  /// True with the given probability.
  package mutating func chance(_ probability: Double) -> Bool { uniform() < probability }

  /// Uniform in 0 ..< bound, without bias.
  package mutating func integer(below bound: Int) -> Int {
    precondition(bound > 0, "integer(below: \(bound))")
    let range = UInt64(bound)
    while true {  // Lemire's method: reject the few values that would make some results more likely.
      let word = UInt64(bits()) << 32 | UInt64(bits())
      let product = word.multipliedFullWidth(by: range)
      if product.low >= range || product.low >= (0 &- range) % range { return Int(product.high) }
    }
  }

  /// Standard normal (Box–Muller).
  package mutating func normal() -> Double {
    let radius = (-2 * log(1 - uniform())).squareRoot()
    return radius * cos(2 * .pi * uniform())
  }

  /// A random order of 0 ..< count (Fisher–Yates).
  package mutating func shuffled(_ count: Int) -> [Int] {
    var order: [Int] = []
    shuffle(count, into: &order)
    return order
  }

  /// A random order of 0 ..< count, written into `order`. Allocates only if its capacity is too small.
  package mutating func shuffle(_ count: Int, into order: inout [Int]) {
    order.removeAll(keepingCapacity: true)
    order.append(contentsOf: 0..<count)
    for i in stride(from: count - 1, to: 0, by: -1) { order.swapAt(i, integer(below: i + 1)) }
  }
}
