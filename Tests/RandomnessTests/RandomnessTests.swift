import Randomness
import Testing

@Suite struct PhiloxTests {
  /// Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
  @Test func knownAnswers() {
    #expect(
      Philox.block(SIMD4(repeating: 0), key: SIMD2(repeating: 0))
        == SIMD4(0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8))
    #expect(
      Philox.block(SIMD4(repeating: .max), key: SIMD2(repeating: .max))
        == SIMD4(0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd))
    #expect(
      Philox.block(SIMD4(0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344), key: SIMD2(0xa409_3822, 0x299f_31d0))
        == SIMD4(0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1))
  }
}

@Suite struct DrawsTests {
  @Test func sameKeySameDrawsOtherKeyOtherDraws() {
    var a = Draws(seed: 1, .crop, 2, 3)
    var b = Draws(seed: 1, .crop, 2, 3)
    var others = [Draws(seed: 2, .crop, 2, 3), Draws(seed: 1, .flip, 2, 3), Draws(seed: 1, .crop, 3, 2)]
    let first = (0..<8).map { _ in a.bits() }
    #expect(first == (0..<8).map { _ in b.bits() })
    for i in others.indices { #expect(first != (0..<8).map { _ in others[i].bits() }) }
  }

  /// Mean and variance within five standard errors of a uniform and a normal sample of 40,000.
  @Test func moments() {
    var draws = Draws(seed: 7, .check)
    let n = 40_000.0
    let u = (0..<Int(n)).map { _ in draws.uniform() }
    let z = (0..<Int(n)).map { _ in draws.normal() }
    #expect(u.allSatisfy { 0 <= $0 && $0 < 1 })
    #expect(abs(u.reduce(0, +) / n - 0.5) < 5 * (1 / 12.0 / n).squareRoot())
    #expect(abs(z.reduce(0, +) / n) < 5 / n.squareRoot())
    #expect(abs(z.map { $0 * $0 }.reduce(0, +) / n - 1) < 5 * (2 / n).squareRoot())
  }

  @Test func integersCoverTheirRangeEvenly() {
    var draws = Draws(seed: 3, .check)
    var counts = [Int](repeating: 0, count: 7)
    for _ in 0..<70_000 { counts[draws.integer(below: 7)] += 1 }
    for count in counts { #expect(abs(Double(count) - 10_000) < 5 * 100) }
  }
}

@Suite struct PermutationTests {
  @Test(arguments: [1, 2, 3, 5, 16, 17, 100, 1023, 4097]) func isABijection(count: Int) {
    let permutation = Permutation(count: count, seed: 5, .order, 1)
    #expect(Set((0..<count).map { permutation[$0] }) == Set(0..<count))
  }

  @Test func dependsOnItsKey() {
    let orders = [(1, 1), (2, 1), (1, 2)].map { (seed: UInt64, epoch: UInt64) in
      let p = Permutation(count: 1000, seed: seed, .order, epoch)
      return (0..<1000).map { p[$0] }
    }
    #expect(orders[0] != orders[1] && orders[0] != orders[2] && orders[0] != Array(0..<1000))
  }
}
