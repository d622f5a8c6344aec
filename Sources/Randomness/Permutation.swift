/// A keyed random permutation of 0 ..< count in O(1) memory: a Feistel network over the next even power of two, applied
/// again until the result lies in the range (cycle walking).
package struct Permutation: Sendable {
  /// Number of elements.
  package let count: Int
  private let key: SIMD2<UInt32>
  private let halfBits: UInt64

  /// - Parameters:
  ///   - count: how many elements; at least 1.
  ///   - seed: the run's seed.
  ///   - words: the rest of the key, such as the epoch.
  package init(count: Int, seed: UInt64, _ purpose: Purpose, _ words: UInt64...) {
    precondition(count > 0, "a permutation of \(count) elements")
    self.count = count
    let mixed = Philox.mix([seed, purpose.rawValue] + words)
    key = SIMD2(UInt32(truncatingIfNeeded: mixed), UInt32(truncatingIfNeeded: mixed >> 32))
    let bits = UInt64(64 - UInt64(count - 1).leadingZeroBitCount)
    halfBits = max(1, (bits + 1) / 2)
  }

  /// The image of `index`. Every element of 0 ..< count is the image of exactly one index.
  package subscript(index: Int) -> Int {
    precondition(0 <= index && index < count, "index \(index) of a permutation of \(count)")
    var value = UInt64(index)
    repeat { value = feistel(value) } while value >= UInt64(count)
    return Int(value)
  }

  private func feistel(_ value: UInt64) -> UInt64 {
    let mask = (1 << halfBits) - 1 as UInt64
    var left = value >> halfBits
    var right = value & mask
    for round in 0..<6 as Range<UInt32> {
      let block = Philox.block(
        SIMD4(UInt32(truncatingIfNeeded: right), round, UInt32(truncatingIfNeeded: right >> 32), 0), key: key)
      (left, right) = (right, left ^ (UInt64(block[0]) & mask))
    }
    return left << halfBits | right
  }
}
