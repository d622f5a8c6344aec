import CKernels

extension MicroKernels {
  /// AVX-512 in a build for AVX2, where the processor has it: the same panels, twice as many floats at once, and the
  /// same bits, because every sum is taken in the same order.
  static let avx512 = MicroKernels(
    name: "avx512",
    isSupported: { Panels.width == 16 && ckernels_has_avx512() != 0 },
    rowsByPanel: { size, a, b, c, next in
      multiply(size, a.first, rowStep: a.step, columnStep: 1, b, c, &next)
    },
    columnsByRows: { size, a, b, c, next in
      multiply(size, a.first, rowStep: 1, columnStep: a.step, b, c, &next)
    },
    farRows: 512,
    stripByPanel: { size, strip, b, c, _ in
      ckernels_multiply_avx512(
        size.m, size.k, strip.first, 1, 6, b.first, b.step, c.first, c.step, size.accumulate ? 1 : 0)
    })

  /// C (m, 16) ← A · B (+ C), twenty-four rows at a time.
  @inline(__always)
  private static func multiply(
    _ size: ProductSize, _ a: UnsafePointer<Float>, rowStep: Int, columnStep: Int, _ b: Rows, _ c: MutableRows,
    _ next: inout Prefetch
  ) {
    var i = 0
    while i < size.m {
      let some = min(24, size.m &- i)
      for _ in 0..<pieces(some, of: 6) { next.fetch() }
      ckernels_multiply_avx512(
        some, size.k, a + i &* rowStep, rowStep, columnStep, b.first, b.step, c.first + i &* c.step, c.step,
        size.accumulate ? 1 : 0)
      i &+= some
    }
  }
}
