/// What one core can do at most, measured: the roof that a bench holds its figures against.
package enum Peak {
  /// Single-precision fused multiply-adds in registers, FLOP/s.
  package static func fusedMultiplyAdd() -> Double {
    let rounds = 4_000_000
    var best = 0.0
    for _ in 0..<3 {
      let start = ContinuousClock.now
      let sum = chain(rounds)
      let seconds = (ContinuousClock.now - start).seconds
      // The comparison keeps the work from being left out.
      if sum.isFinite { best = max(best, Double(rounds) * 12 * 8 * 2 / seconds) }
    }
    return best
  }

  /// Twelve independent chains of SIMD8: as many as hide the latency of two units.
  @inline(never)
  private static func chain(_ rounds: Int) -> Float {
    typealias V = SIMD8<Float>
    let m = V(repeating: 0.999_999), a = V(repeating: 1e-6)
    var (s0, s1, s2, s3, s4, s5) = (V(), V(), V(), V(), V(), V())
    var (s6, s7, s8, s9, s10, s11) = (V(), V(), V(), V(), V(), V())
    for _ in 0..<rounds {
      s0 = a.addingProduct(s0, m); s1 = a.addingProduct(s1, m); s2 = a.addingProduct(s2, m)
      s3 = a.addingProduct(s3, m); s4 = a.addingProduct(s4, m); s5 = a.addingProduct(s5, m)
      s6 = a.addingProduct(s6, m); s7 = a.addingProduct(s7, m); s8 = a.addingProduct(s8, m)
      s9 = a.addingProduct(s9, m); s10 = a.addingProduct(s10, m); s11 = a.addingProduct(s11, m)
    }
    return (s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11).sum()
  }
}
