/// Philox4x32-10, a counter-based generator: a block of random bits is a pure function of a counter and a key.
///
/// Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011).
package enum Philox {
  /// - Parameters:
  ///   - counter: 128 bits, the block's number.
  ///   - key: 64 bits, the stream's key.
  /// - Returns: 128 random bits.
  package static func block(_ counter: SIMD4<UInt32>, key: SIMD2<UInt32>) -> SIMD4<UInt32> {
    var c = counter
    var k = key
    for _ in 0..<10 {
      let a = c[0].multipliedFullWidth(by: 0xD251_1F53)
      let b = c[2].multipliedFullWidth(by: 0xCD9E_8D57)
      c = SIMD4(b.high ^ c[1] ^ k[0], b.low, a.high ^ c[3] ^ k[1], a.low)
      k = k &+ SIMD2(0x9E37_79B9, 0xBB67_AE85)
    }
    return c
  }

  /// Hashes 64-bit words into one, for keys of any length.
  package static func mix(_ words: [UInt64]) -> UInt64 { words.reduce(start, mix) }

  /// Initial state of `mix`.
  static let start: UInt64 = 0x6A09_E667_F3BC_C908

  /// Mixes one more word into the state.
  static func mix(_ state: UInt64, _ word: UInt64) -> UInt64 {
    let b = block(
      SIMD4(UInt32(truncatingIfNeeded: word), UInt32(truncatingIfNeeded: word >> 32), 0, 0),
      key: SIMD2(UInt32(truncatingIfNeeded: state), UInt32(truncatingIfNeeded: state >> 32)))
    return UInt64(b[0]) | UInt64(b[1]) << 32
  }
}
