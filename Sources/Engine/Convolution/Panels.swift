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
  func multiply(
    _ m: Int, _ a: UnsafePointer<Float>, into c: UnsafeMutablePointer<Float>, accumulate: Bool = false,
    epilogue: Epilogue? = nil
  ) {
    let block = rows * columns > 1 << 20 ? 144 : 48
    let kernels = MicroKernels.current
    let whole = columns & ~(Panels.width &- 1)
    var first = 0
    while first < m {
      let some = min(block, m &- first)
      let left = min(block, m &- first &- some)
      let calls = pieces(some, of: 6) * pieces(columns, of: Panels.width) * pieces(rows, of: Panels.depth)
      var next = Prefetch(
        a + (first &+ some) &* rows, count: left &* rows,
        and: c + (first &+ some) &* columns, count: left &* columns,
        and: epilogue?.residual.map { $0 + (first &+ some) &* columns }, calls: calls)
      let to = MutableRows(c + first &* columns, step: columns)
      var top = 0
      while top < rows {
        let height = min(Panels.depth, rows &- top)
        let from = Rows(a + (first &* rows &+ top), step: rows)
        let finish = top &+ height == rows ? epilogue?.moved(by: first &* columns) : nil
        let size = ProductSize(m: some, n: whole, k: height, accumulate: accumulate || top > 0)
        kernels.multiply(
          size, LeftFactor(rows: from), RightFactor(panels: data + place(top, 0), depth: height), to, finish, &next)
        if whole < columns { multiplyLastPanel(size, from, data + place(top, whole), to, finish, &next) }
        top &+= height
      }
      first &+= some
    }
  }

  /// A panel of which only some columns are there: the product goes by way of a square with all of them.
  private func multiplyLastPanel(
    _ size: ProductSize, _ a: Rows, _ panel: UnsafePointer<Float>, _ c: MutableRows, _ epilogue: Epilogue?,
    _ next: inout Prefetch
  ) {
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 6 * Panels.width) { square in
      let square = MutableRows(square.baseAddress!, step: Panels.width)
      for first in stride(from: 0, to: size.m, by: 6) {
        let some = ProductSize(m: min(6, size.m - first), n: Panels.width, k: size.k, accumulate: false)
        MicroKernels.current.multiply(
          some, LeftFactor(rows: Rows(a.first + first &* a.step, step: a.step)),
          RightFactor(panels: panel, depth: size.k), square, nil, &next)
        for row in 0..<some.m {
          let from = square.first + row &* Panels.width
          for column in size.n..<columns {
            let place = (first &+ row) &* c.step &+ column
            let sum = size.accumulate ? c.first[place] + from[column &- size.n] : from[column &- size.n]
            c.first[place] = epilogue?.apply(sum, at: place, channel: column) ?? sum
          }
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
  MicroKernels.current.multiply(
    ProductSize(m: m, n: Panels.width, k: k, accumulate: accumulate), LeftFactor(rows: Rows(a, step: lda)),
    RightFactor(panels: panel, depth: k), MutableRows(c, step: ldc), nil, &next)
}
