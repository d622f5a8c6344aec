import Engine
import Testing

/// Compares all implementations of the micro-kernels, in all layouts, with products in Double.
@Suite struct MicroKernelsTests {
  private let width = Panels.width

  @Test(arguments: MicroKernels.all.map(\.name), [1, 2, 3, 4, 5, 6])
  func multipliesInEveryLayout(_ name: String, _ m: Int) throws {
    let kernels = try #require(MicroKernels.all.first { $0.name == name })
    guard kernels.isSupported() else { return }
    for k in [1, 3, 4, 9] { try multiplyInEveryLayout(kernels, m, k) }
  }

  private func multiplyInEveryLayout(_ kernels: MicroKernels, _ m: Int, _ k: Int) throws {
    let lda = 11
    let ldb = width + 5
    for accumulate in [false, true] {
      let size = ProductSize(m: m, k: k, accumulate: accumulate)
      try check(kernels.rowsByPanel, size, lda: lda, ldb: width) { a, row, p in a[row * lda + p] }
      try check(kernels.columnsByRows, size, lda: lda, ldb: ldb) { a, row, p in a[p * lda + row] }
      try check(kernels.stripByPanel, size, lda: 6, ldb: width) { a, row, p in a[p * 6 + row] }
    }
  }

  /// More rows than a tile has.
  @Test(arguments: MicroKernels.all.map(\.name)) func takesManyRows(_ name: String) throws {
    let kernels = try #require(MicroKernels.all.first { $0.name == name })
    guard kernels.isSupported() else { return }
    let size = ProductSize(m: 17, k: 7, accumulate: true)
    try check(kernels.rowsByPanel, size, lda: 9, ldb: width) { a, row, p in a[row * 9 + p] }
    try check(kernels.columnsByRows, size, lda: 19, ldb: width + 3) { a, row, p in a[p * 19 + row] }
  }

  /// Registers of any width sum in the same order.
  @Test(arguments: [1, 5, 6, 13, 24, 48, 53], [1, 7, 64]) func widerRegistersGiveTheSameBits(_ m: Int, _ k: Int) {
    guard MicroKernels.best.name != "simd" else { return }
    let simd = MicroKernels.all.first { $0.name == "simd" }!
    let a = numbers((m + 1) * (k + 1) * 2, 1)
    let b = numbers(k * width, 2)
    func product(_ product: MicroKernels.Product, _ step: Int) -> [Float] {
      var c = numbers(m * width, 3)
      c.withUnsafeMutableBufferPointer { c in
        var next = Prefetch(nothingBeside: b)
        product(
          ProductSize(m: m, k: k, accumulate: true), Rows(a, step: step), Rows(b, step: width),
          MutableRows(c.baseAddress!, step: width), &next)
      }
      return c
    }
    #expect(product(MicroKernels.best.rowsByPanel, k + 1) == product(simd.rowsByPanel, k + 1))
    #expect(product(MicroKernels.best.columnsByRows, m + 1) == product(simd.columnsByRows, m + 1))
  }

  @Test func anUnknownNameIsRefusedAndChangesNothing() {
    let before = MicroKernels.current.name
    #expect(!MicroKernels.choose("quantum"))
    #expect(MicroKernels.current.name == before)
    #expect(Set(MicroKernels.all.map(\.name)).count == MicroKernels.all.count)
  }

  /// - Parameter factor: reads A(row, p) from the memory of A.
  private func check(
    _ product: MicroKernels.Product, _ size: ProductSize, lda: Int, ldb: Int,
    factor: (_ a: [Float], _ row: Int, _ p: Int) -> Float
  ) throws {
    let ldc = width + 7
    let a = numbers(max(size.m, size.k) * (lda + 1) + 6, 1)
    let b = numbers(size.k * ldb, 2)
    let before = numbers(size.m * ldc, 3)
    var c = before
    a.withUnsafeBufferPointer { a in
      b.withUnsafeBufferPointer { b in
        c.withUnsafeMutableBufferPointer { c in
          var next = Prefetch(nothingBeside: b.baseAddress!)
          product(
            size, Rows(a.baseAddress!, step: lda), Rows(b.baseAddress!, step: ldb),
            MutableRows(c.baseAddress!, step: ldc), &next)
        }
      }
    }
    for row in 0..<size.m {
      for column in 0..<ldc {
        var expected = Double(before[row * ldc + column])
        var magnitude = abs(expected)
        if column < width {
          if !size.accumulate { expected = 0 }
          for p in 0..<size.k {
            let term = Double(factor(a, row, p)) * Double(b[p * ldb + column])
            expected += term
            magnitude += abs(term)
          }
        }
        // k + 1 roundings, each at most half an ulp of the sum of magnitudes.
        let error = abs(Double(c[row * ldc + column]) - expected)
        #expect(error <= Double(size.k + 1) * 0x1p-24 * magnitude, "row \(row), column \(column) of \(size)")
      }
    }
  }

  /// Numbers in [-1, 1), the same in every run.
  private func numbers(_ count: Int, _ seed: UInt32) -> [Float] {
    var state = seed
    return (0..<count).map { _ in
      state = state &* 1_664_525 &+ 1_013_904_223
      return Float(state >> 8) / Float(1 << 23) - 1
    }
  }
}
