/// The second factor B (rows, columns) of a product A · B, packed in the order in which the micro-kernel reads it:
/// blocks of rows, in each of them panels as wide as two registers; the last panel has padding. A panel takes 16 KiB
/// and stays in the L1 cache while A goes by. A is not packed.
///
/// OpenBLAS packs A as well. With the 64 to 512 channels of a convolution that takes a tenth to a half of the time of
/// the arithmetic: on one core with AVX2 and a peak of 117 GFLOP/s OpenBLAS reaches 70 to 106, these panels 100 to 113.
package struct Panels {
  /// Columns and rows of a panel: 16 and 256, with AVX-512 32 and 128.
  package static let width = 2 * Lanes.scalarCount, depth = 4096 / width

  let rows: Int, columns: Int
  let data: UnsafeMutablePointer<Float>

  /// - data: `floats(rows, columns)`, the caller's.
  init(_ data: UnsafeMutablePointer<Float>, rows: Int, columns: Int) {
    self.data = data
    self.rows = rows
    self.columns = columns
  }

  static func floats(_ rows: Int, _ columns: Int) -> Int { rows * pieces(columns, of: width) * width }

  /// Where the element (row, column) is; those of the next columns follow up to the panel's end.
  @inline(__always)
  func place(_ row: Int, _ column: Int) -> Int {
    let first = row & ~(Panels.depth &- 1)
    let height = min(Panels.depth, rows &- first)
    let within = Panels.width &- 1
    let padded = (columns &+ within) & ~within
    return first &* padded &+ (column & ~within) &* height &+ (row &- first) &* Panels.width &+ (column & within)
  }

  /// Takes some of B's rows over from a matrix in row order, or from its transpose.
  func pack(_ from: UnsafePointer<Float>, transposed: Bool = false, rows some: Range<Int>) {
    for first in stride(from: 0, to: columns, by: Panels.width) {
      let count = min(Panels.width, columns - first)
      for row in some {
        let to = data + place(row, first)
        if transposed {
          for i in 0..<count { to[i] = from[(first &+ i) &* rows &+ row] }
        } else {
          for i in 0..<count { to[i] = from[row &* columns &+ first &+ i] }
        }
        for i in count..<Panels.width { to[i] = 0 }
      }
    }
  }

  /// C (m, columns) ← A (m, rows) · B (+ C), both without gaps between their rows; then the epilogue.
  ///
  /// For each block of A's rows the panels go by; meanwhile the next block is fetched, so that memory and arithmetic
  /// work at the same time.
  /// - work: `work` floats, the thread's own, where rows of A that are far apart are packed; nil to leave them.
  func multiply(
    _ m: Int, _ a: UnsafePointer<Float>, into c: UnsafeMutablePointer<Float>, accumulate: Bool = false,
    epilogue: Epilogue? = nil, work: UnsafeMutablePointer<Float>? = nil
  ) {
    let block = rows * columns > 1 << 20 ? Self.mostRows : 48
    let kernels = MicroKernels.current
    let strips = rows >= kernels.farRows ? work : nil
    var first = 0
    while first < m {
      let some = min(block, m &- first)
      let left = min(block, m &- first &- some)
      let calls = pieces(some, of: 6) * pieces(columns, of: Panels.width) * pieces(rows, of: Panels.depth)
      var next = Prefetch(
        a + (first &+ some) &* rows, count: left &* rows,
        and: c + (first &+ some) &* columns, count: left &* columns,
        and: epilogue?.residual.map { $0 + (first &+ some) &* columns }, calls: calls)
      let finish = epilogue?.moved(by: first &* columns)
      var top = 0
      while top < rows {
        let height = min(Panels.depth, rows &- top)
        let size = ProductSize(m: some, k: height, accumulate: accumulate || top > 0)
        let from = Rows(a + (first &* rows &+ top), step: rows)
        if let strips { Self.packStrips(from, rows: some, columns: height, into: strips) }
        var column = 0
        while column < columns {
          let panel = Rows(data + place(top, column), step: Panels.width)
          let to = MutableRows(c + (first &* columns &+ column), step: columns)
          if column &+ Panels.width <= columns, let strips {
            multiplyStrips(size, strips, panel, to, &next, kernels)
          } else if column &+ Panels.width <= columns {
            kernels.rowsByPanel(size, from, panel, to, &next)
          } else {
            multiplyLastPanel(size, from, panel, to, &next, columns: columns &- column, kernels)
          }
          if let finish, top &+ height == rows {
            finish.apply(
              to: c + first &* columns, rows: some, columns: column..<min(column &+ Panels.width, columns),
              channels: columns)
          }
          column &+= Panels.width
        }
        top &+= height
      }
      first &+= some
    }
  }

  /// Rows of A in a strip.
  private static let strip = 24
  /// Rows of A in a block, at most.
  private static let mostRows = 144
  /// Floats that `multiply` works with.
  static let work = mostRows * depth

  /// Packs rows as strips, in which the columns follow one another.
  private static func packStrips(
    _ a: Rows, rows: Int, columns: Int, into strips: UnsafeMutablePointer<Float>
  ) {
    for first in stride(from: 0, to: rows, by: strip) {
      transpose(
        a.first + first &* a.step, ld: a.step, min(strip, rows &- first), columns, into: strips + first &* columns)
    }
  }

  /// A panel's product with packed rows.
  private func multiplyStrips(
    _ size: ProductSize, _ strips: UnsafePointer<Float>, _ panel: Rows, _ c: MutableRows, _ next: inout Prefetch,
    _ kernels: MicroKernels
  ) {
    for first in stride(from: 0, to: size.m, by: Self.strip) {
      let some = min(Self.strip, size.m &- first)
      kernels.columnsByRows(
        ProductSize(m: some, k: size.k, accumulate: size.accumulate), Rows(strips + first &* size.k, step: some),
        panel, MutableRows(c.first + first &* c.step, step: c.step), &next)
    }
  }

  /// A panel of which only some columns are there: the product goes by way of a square with all of them.
  private func multiplyLastPanel(
    _ size: ProductSize, _ a: Rows, _ panel: Rows, _ c: MutableRows, _ next: inout Prefetch, columns: Int,
    _ kernels: MicroKernels
  ) {
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 6 * Panels.width) { square in
      let square = MutableRows(square.baseAddress!, step: Panels.width)
      for first in stride(from: 0, to: size.m, by: 6) {
        let some = ProductSize(m: min(6, size.m - first), k: size.k, accumulate: false)
        kernels.rowsByPanel(some, Rows(a.first + first &* a.step, step: a.step), panel, square, &next)
        for row in 0..<some.m {
          let to = c.first + (first &+ row) &* c.step
          let from = square.first + row &* Panels.width
          for i in 0..<columns { to[i] = size.accumulate ? to[i] + from[i] : from[i] }
        }
      }
    }
  }
}

/// C (m, width) ← A · B (+ C) with A (m, k) in row order, and B (k, width) a panel.
func multiplyByPanel(
  _ m: Int, _ k: Int, _ a: UnsafePointer<Float>, lda: Int, _ panel: UnsafePointer<Float>,
  into c: UnsafeMutablePointer<Float>, ldc: Int, accumulate: Bool
) {
  var next = Prefetch(nothingBeside: a)
  MicroKernels.current.rowsByPanel(
    ProductSize(m: m, k: k, accumulate: accumulate), Rows(a, step: lda), Rows(panel, step: Panels.width),
    MutableRows(c, step: ldc), &next)
}
