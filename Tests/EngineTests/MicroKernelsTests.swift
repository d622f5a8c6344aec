import Engine
import Testing

/// Compares all implementations of the micro-kernel with products in Double, for A in rows, in columns and in strips,
/// and B in rows and in panels.
@Suite struct MicroKernelsTests {
  private let width = Panels.width

  /// How the factors of a product lie in memory.
  private enum Layout: CaseIterable { case rowsByPanels, columnsByRows, stripsByPanels }

  /// Fewer rows than a tile has, as many, and more; panels by one, by two, and one beyond them.
  @Test(arguments: MicroKernels.all.map(\.name), [1, 2, 3, 4, 5, 6, 11, 12, 17, 25])
  func multipliesInEveryLayout(_ name: String, _ m: Int) throws {
    let kernels = try #require(MicroKernels.all.first { $0.name == name })
    guard kernels.isSupported() else { return }
    for k in [1, 3, 4, 9] {
      for panels in 1...3 {
        for layout in Layout.allCases where layout != .stripsByPanels || m <= kernels.rows {
          for accumulate in [false, true] {
            for finish in [nil, Finish(residual: false, floor: -.infinity), Finish(residual: true, floor: 0)] {
              let size = ProductSize(m: m, n: panels * width, k: k, accumulate: accumulate)
              try check(kernels, size, layout, finish)
            }
          }
        }
      }
    }
  }

  /// Registers of any width sum in the same order.
  @Test(arguments: [1, 5, 6, 13, 24, 48, 53], [1, 7, 64]) func widerRegistersGiveTheSameBits(_ m: Int, _ k: Int) {
    guard MicroKernels.best.name != "simd" else { return }
    let simd = MicroKernels.all.first { $0.name == "simd" }!
    for layout in [Layout.rowsByPanels, .columnsByRows] {
      for finish in [nil, Finish(residual: true, floor: 0)] {
        let product = Product(ProductSize(m: m, n: 3 * width, k: k, accumulate: true), layout, finish, strip: 0)
        let isSame = product.run(MicroKernels.best) == product.run(simd)
        #expect(isSame, "\(layout)")
      }
    }
  }

  /// NaN stays NaN where a ReLU follows.
  @Test(arguments: MicroKernels.all.map(\.name)) func theReLUKeepsNaN(_ name: String) throws {
    let kernels = try #require(MicroKernels.all.first { $0.name == name })
    guard kernels.isSupported() else { return }
    var product = Product(
      ProductSize(m: 2, n: 2 * width, k: 1, accumulate: false), .rowsByPanels, Finish(residual: false, floor: 0),
      strip: 0)
    product.a[0] = .nan
    let c = product.run(kernels)
    #expect(c[..<product.size.n].allSatisfy { $0.isNaN })
    #expect(!c[product.ldc..<product.ldc + product.size.n].contains { $0.isNaN })
  }

  @Test func anUnknownNameIsRefusedAndChangesNothing() {
    let before = MicroKernels.current.name
    #expect(!MicroKernels.choose("quantum"))
    #expect(MicroKernels.current.name == before)
    #expect(Set(MicroKernels.all.map(\.name)).count == MicroKernels.all.count)
  }

  /// An epilogue that is tried.
  private struct Finish {
    let residual: Bool
    let floor: Float
  }

  /// Factors, the matrix that is added to, and what the epilogue reads.
  private struct Product {
    let size: ProductSize
    let layout: Layout
    let finish: Finish?
    /// Rows of a strip of A.
    let strip: Int
    let ldc: Int
    var a: [Float]
    let b: [Float], before: [Float], channels: [Float], residual: [Float]

    init(_ size: ProductSize, _ layout: Layout, _ finish: Finish?, strip: Int) {
      self.size = size
      self.layout = layout
      self.finish = finish
      self.strip = strip
      ldc = size.n + 7
      a = numbers((size.m + 3) * (size.k + 2) + strip * size.k, 1)
      b = numbers(size.k * (size.n + 5), 2)
      before = numbers(size.m * ldc, 3)
      channels = numbers(3 * size.n, 4)
      residual = numbers(size.m * ldc, 5)
    }

    /// Floats from one row of A to the next, or from one column.
    var lda: Int {
      switch layout {
      case .rowsByPanels: size.k + 2
      case .columnsByRows: size.m + 3
      case .stripsByPanels: strip
      }
    }

    func factor(_ row: Int, _ p: Int) -> Double {
      Double(layout == .rowsByPanels ? a[row * lda + p] : a[p * lda + row])
    }

    func other(_ p: Int, _ column: Int) -> Double {
      if layout == .columnsByRows { return Double(b[p * (size.n + 5) + column]) }
      let (panel, within) = column.quotientAndRemainder(dividingBy: Panels.width)
      return Double(b[panel * size.k * Panels.width + p * Panels.width + within])
    }

    /// C, with what lies between its rows.
    func run(_ kernels: MicroKernels) -> [Float] {
      var c = before
      channels.withUnsafeBufferPointer { channels in
        residual.withUnsafeBufferPointer { residual in
          let epilogue = finish.map { finish in
            Epilogue(
              mean: channels.baseAddress!, scale: channels.baseAddress! + size.n,
              shift: channels.baseAddress! + 2 * size.n, residual: finish.residual ? residual.baseAddress! : nil,
              floor: finish.floor)
          }
          a.withUnsafeBufferPointer { a in
            b.withUnsafeBufferPointer { b in
              c.withUnsafeMutableBufferPointer { c in
                var next = Prefetch(nothingBeside: b.baseAddress!)
                let rows = Rows(a.baseAddress!, step: lda)
                kernels.multiply(
                  size, layout == .rowsByPanels ? LeftFactor(rows: rows) : LeftFactor(columns: rows),
                  layout == .columnsByRows
                    ? RightFactor(rows: Rows(b.baseAddress!, step: size.n + 5))
                    : RightFactor(panels: b.baseAddress!, depth: size.k),
                  MutableRows(c.baseAddress!, step: ldc), epilogue, &next)
              }
            }
          }
        }
      }
      return c
    }

    /// An element of C and the magnitude of what is summed and rounded for it.
    func expected(_ row: Int, _ column: Int) -> (value: Double, magnitude: Double) {
      let place = row * ldc + column
      guard column < size.n else { return (Double(before[place]), 0) }
      var value = size.accumulate ? Double(before[place]) : 0
      var magnitude = abs(value)
      for p in 0..<size.k {
        let term = factor(row, p) * other(p, column)
        value += term
        magnitude += abs(term)
      }
      guard let finish else { return (value, magnitude) }
      let (mean, scale, shift) = (channels[column], channels[size.n + column], channels[2 * size.n + column])
      let added = finish.residual ? Double(residual[place]) : 0
      value = (value - Double(mean)) * Double(scale) + Double(shift) + added
      magnitude = (magnitude + abs(Double(mean))) * abs(Double(scale)) + abs(Double(shift)) + abs(added)
      return (max(Double(finish.floor), value), magnitude)
    }
  }

  private func check(_ kernels: MicroKernels, _ size: ProductSize, _ layout: Layout, _ finish: Finish?) throws {
    let product = Product(size, layout, finish, strip: kernels.rows)
    let c = product.run(kernels)
    var wrong: [String] = []
    for row in 0..<size.m {
      for column in 0..<product.ldc {
        let (value, magnitude) = product.expected(row, column)
        // k + 1 roundings of the sum and three of the epilogue, each at most half an ulp of the sum of magnitudes.
        let error = abs(Double(c[row * product.ldc + column]) - value)
        if !(error <= Double(size.k + 4) * 0x1p-24 * magnitude) { wrong.append("row \(row), column \(column)") }
      }
    }
    #expect(wrong.isEmpty, "\(size), \(layout): \(wrong.prefix(3))")
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
