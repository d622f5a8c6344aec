import CSystem

/// The second factor B (rows, columns) of a product A · B, in the order in which the kernel reads it: blocks of 256
/// rows, in each of them panels of 16 columns; the last panel is padded. A panel takes 16 KiB and stays in the L1 cache
/// while A goes by, of which nothing is copied.
///
/// OpenBLAS copies A as well, which for the 64 to 512 channels of a convolution takes as long as a tenth to a half of
/// the arithmetic: on one core with a peak of 117 GFLOP/s it reaches 70 to 106 there, this 100 to 113.
struct Panels {
  static let width = 16, depth = 256

  let rows: Int, columns: Int
  let data: UnsafeMutablePointer<Float>

  /// - data: `floats(rows, columns)`, the caller's.
  init(_ data: UnsafeMutablePointer<Float>, rows: Int, columns: Int) {
    (self.data, self.rows, self.columns) = (data, rows, columns)
  }

  static func floats(_ rows: Int, _ columns: Int) -> Int { rows * pieces(columns, of: width) * width }

  /// Where the element (row, column) is; those of the next columns follow up to the panel's end.
  @inline(__always)
  func place(_ row: Int, _ column: Int) -> Int {
    let first = row & ~(Panels.depth &- 1), height = min(Panels.depth, rows &- first)
    let padded = (columns &+ 15) & ~15
    return first &* padded &+ (column & ~15) &* height &+ (row &- first) &* Panels.width &+ (column & 15)
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

  /// C (m, columns) ← A (m, rows) · B (+ C), both without gaps between their rows.
  ///
  /// For each block of A's rows the panels go by; meanwhile the next block is fetched, so that memory and arithmetic
  /// work at the same time.
  func multiply(
    _ m: Int, _ a: UnsafePointer<Float>, into c: UnsafeMutablePointer<Float>, accumulate: Bool = false
  ) {
    let block = rows * columns > 1 << 20 ? 144 : 48
    var first = 0
    while first < m {
      let some = min(block, m &- first), next = min(block, m &- first &- some)
      let calls = pieces(some, of: 6) * pieces(columns, of: Panels.width) * pieces(rows, of: Panels.depth)
      var ahead = Ahead(a + (first &+ some) &* rows, next &* rows, c + (first &+ some) &* columns, next &* columns, calls)
      var top = 0
      while top < rows {
        let height = min(Panels.depth, rows &- top), add = accumulate || top > 0
        var column = 0
        while column < columns {
          let panel = data + place(top, column), from = a + (first &* rows &+ top)
          let to = c + (first &* columns &+ column)
          if column &+ Panels.width <= columns {
            rowsByPanel(some, height, from, rows, 1, panel, Panels.width, to, columns, add, &ahead)
          } else {
            lastPanel(some, height, from, panel, to, columns &- column, add, &ahead)
          }
          column &+= Panels.width
        }
        top &+= height
      }
      first &+= some
    }
  }

  /// A panel of which only some columns are there.
  private func lastPanel(
    _ m: Int, _ height: Int, _ a: UnsafePointer<Float>, _ panel: UnsafePointer<Float>,
    _ c: UnsafeMutablePointer<Float>, _ count: Int, _ accumulate: Bool, _ ahead: inout Ahead
  ) {
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 6 * Panels.width) { square in
      for first in stride(from: 0, to: m, by: 6) {
        let some = min(6, m - first), square = square.baseAddress!
        rowsByPanel(
          some, height, a + first &* rows, rows, 1, panel, Panels.width, square, Panels.width, false, &ahead)
        for row in 0..<some {
          let to = c + (first &+ row) &* columns, from = square + row &* Panels.width
          for i in 0..<count { to[i] = accumulate ? to[i] + from[i] : from[i] }
        }
      }
    }
  }
}

/// C (m, n) ← Aᵀ · B (+ C) with A (k, m) and B (k, n), which lie `lda` and `ldb` floats a row apart: the weight gradient
/// of a convolution, where k is long. A piece of both that stays in the cache goes by at a time, and C stays there, too;
/// where it is too large for that, OpenBLAS is as fast.
///
/// The factors are read in place, but for rows so far apart that they would fight for the same sets of the L1 cache.
/// - work: `transposedWork` floats, the thread's own.
func multiplyTransposed(
  _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, lda: Int, _ b: UnsafePointer<Float>, ldb: Int,
  into c: UnsafeMutablePointer<Float>, ldc: Int, accumulate: Bool, work: UnsafeMutablePointer<Float>
) {
  guard n % Panels.width == 0, max(m, n) <= 512, m * n <= 512 * 256 else {
    sgemm(m, n, k, a, lda: lda, transposed: true, b, ldb: ldb, into: c, ldc: ldc, beta: accumulate ? 1 : 0)
    return
  }
  let farA = lda > 512, farB = ldb > 512, panel = work + transposedBlock * 512
  var first = 0
  while first < k {
    let some = min(transposedBlock, k &- first), next = min(transposedBlock, k &- first &- some)
    let calls = pieces(m, of: 6) * (n / Panels.width)
    var ahead = Ahead(a + (first &+ some) &* lda, next &* lda, b + (first &+ some) &* ldb, next &* ldb, calls)
    let a = a + first &* lda
    if farA { gather(a, lda, some, columns: m, into: work) }
    var column = 0
    while column < n {
      let b = b + (first &* ldb &+ column)
      if farB { gather(b, ldb, some, columns: Panels.width, into: panel) }
      rowsByPanel(
        m, some, farA ? UnsafePointer(work) : a, 1, farA ? m : lda, farB ? UnsafePointer(panel) : b,
        farB ? Panels.width : ldb, c + column, ldc, accumulate || first > 0, &ahead)
      column &+= Panels.width
    }
    first &+= some
  }
}

private let transposedBlock = 64

/// Floats that `multiplyTransposed` works with.
let transposedWork = transposedBlock * (512 + Panels.width)

/// Some columns of a matrix, without gaps.
private func gather(
  _ from: UnsafePointer<Float>, _ ld: Int, _ rows: Int, columns: Int, into to: UnsafeMutablePointer<Float>
) {
  for row in 0..<rows { (to + row &* columns).update(from: from + row &* ld, count: columns) }
}

// MARK: The kernel

private typealias Lanes = SIMD8<Float>

@inline(__always)
private func load(_ from: UnsafePointer<Float>) -> Lanes { UnsafeRawPointer(from).loadUnaligned(as: Lanes.self) }

@inline(__always)
private func store(_ value: Lanes, _ to: UnsafeMutablePointer<Float>, _ accumulate: Bool) {
  UnsafeMutableRawPointer(to).storeBytes(of: accumulate ? value + load(to) : value, as: Lanes.self)
}

/// What the next block needs, asked for in as many small portions as there are calls of the kernel.
private struct Ahead {
  private var first: UnsafePointer<Float>, second: UnsafePointer<Float>
  private let firstEnd: UnsafePointer<Float>, secondEnd: UnsafePointer<Float>
  private let firstStep: Int, secondStep: Int
  private static let line = 16

  /// So many floats from two places, the second of which may be written.
  init(_ first: UnsafePointer<Float>, _ m: Int, _ second: UnsafePointer<Float>, _ n: Int, _ calls: Int) {
    (self.first, self.second, firstEnd, secondEnd) = (first, second, first + m, second + n)
    firstStep = pieces(pieces(m, of: Ahead.line), of: calls) * Ahead.line
    secondStep = pieces(pieces(n, of: Ahead.line), of: calls) * Ahead.line
  }

  @inline(__always)
  mutating func fetch() {
    let firstStop = min(first + firstStep, firstEnd), secondStop = min(second + secondStep, secondEnd)
    while first < firstStop {
      csystem_prefetch(first)
      first += Ahead.line
    }
    while second < secondStop {
      csystem_prefetch_to_write(second)
      second += Ahead.line
    }
  }
}

/// C (m, 16) ← A · panel (+ C), with A(i, p) = a[i·rowStep + p·columnStep]: in strips of six rows, whose twelve sums are
/// what sixteen registers hold beside the factors, and more than two FMA units with a latency of four need.
@inline(__always)
private func rowsByPanel(
  _ m: Int, _ k: Int, _ a: UnsafePointer<Float>, _ rowStep: Int, _ columnStep: Int, _ panel: UnsafePointer<Float>,
  _ panelStep: Int, _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ accumulate: Bool, _ ahead: inout Ahead
) {
  var i = 0
  while i &+ 6 <= m {
    ahead.fetch()
    sixRows(k, a + i &* rowStep, rowStep, columnStep, panel, panelStep, c + i &* ldc, ldc, accumulate)
    i &+= 6
  }
  while i &+ 2 <= m {
    twoRows(k, a + i &* rowStep, rowStep, columnStep, panel, panelStep, c + i &* ldc, ldc, accumulate)
    i &+= 2
  }
  if i < m { oneRow(k, a + i &* rowStep, columnStep, panel, panelStep, c + i &* ldc, accumulate) }
}

@inline(__always)
private func sixRows(
  _ k: Int, _ a: UnsafePointer<Float>, _ rowStep: Int, _ columnStep: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
  _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ accumulate: Bool
) {
  var (s00, s01, s10, s11) = (Lanes.zero, Lanes.zero, Lanes.zero, Lanes.zero)
  var (s20, s21, s30, s31) = (Lanes.zero, Lanes.zero, Lanes.zero, Lanes.zero)
  var (s40, s41, s50, s51) = (Lanes.zero, Lanes.zero, Lanes.zero, Lanes.zero)
  var upper = a, lower = a + 3 &* rowStep, row = b
  for _ in 0..<k {
    let b0 = load(row), b1 = load(row + 8)
    let x0 = Lanes(repeating: upper[0]), x1 = Lanes(repeating: upper[rowStep])
    s00.addProduct(x0, b0)
    s01.addProduct(x0, b1)
    s10.addProduct(x1, b0)
    s11.addProduct(x1, b1)
    let x2 = Lanes(repeating: upper[2 &* rowStep]), x3 = Lanes(repeating: lower[0])
    s20.addProduct(x2, b0)
    s21.addProduct(x2, b1)
    s30.addProduct(x3, b0)
    s31.addProduct(x3, b1)
    let x4 = Lanes(repeating: lower[rowStep]), x5 = Lanes(repeating: lower[2 &* rowStep])
    s40.addProduct(x4, b0)
    s41.addProduct(x4, b1)
    s50.addProduct(x5, b0)
    s51.addProduct(x5, b1)
    upper += columnStep
    lower += columnStep
    row += ldb
  }
  store(s00, c, accumulate)
  store(s01, c + 8, accumulate)
  store(s10, c + ldc, accumulate)
  store(s11, c + (ldc &+ 8), accumulate)
  store(s20, c + 2 &* ldc, accumulate)
  store(s21, c + (2 &* ldc &+ 8), accumulate)
  store(s30, c + 3 &* ldc, accumulate)
  store(s31, c + (3 &* ldc &+ 8), accumulate)
  store(s40, c + 4 &* ldc, accumulate)
  store(s41, c + (4 &* ldc &+ 8), accumulate)
  store(s50, c + 5 &* ldc, accumulate)
  store(s51, c + (5 &* ldc &+ 8), accumulate)
}

@inline(__always)
private func twoRows(
  _ k: Int, _ a: UnsafePointer<Float>, _ rowStep: Int, _ columnStep: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
  _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ accumulate: Bool
) {
  var (s00, s01, s10, s11) = (Lanes.zero, Lanes.zero, Lanes.zero, Lanes.zero)
  var from = a, row = b
  for _ in 0..<k {
    let b0 = load(row), b1 = load(row + 8)
    let x0 = Lanes(repeating: from[0]), x1 = Lanes(repeating: from[rowStep])
    s00.addProduct(x0, b0)
    s01.addProduct(x0, b1)
    s10.addProduct(x1, b0)
    s11.addProduct(x1, b1)
    from += columnStep
    row += ldb
  }
  store(s00, c, accumulate)
  store(s01, c + 8, accumulate)
  store(s10, c + ldc, accumulate)
  store(s11, c + (ldc &+ 8), accumulate)
}

@inline(__always)
private func oneRow(
  _ k: Int, _ a: UnsafePointer<Float>, _ columnStep: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
  _ c: UnsafeMutablePointer<Float>, _ accumulate: Bool
) {
  var (s0, s1) = (Lanes.zero, Lanes.zero)
  var from = a, row = b
  for _ in 0..<k {
    let x = Lanes(repeating: from[0])
    s0.addProduct(x, load(row))
    s1.addProduct(x, load(row + 8))
    from += columnStep
    row += ldb
  }
  store(s0, c, accumulate)
  store(s1, c + 8, accumulate)
}

/// (columns, rows) ← (rows, columns)ᵀ, a square that stays in the L1 cache at a time.
func transpose(_ from: UnsafePointer<Float>, _ rows: Int, _ columns: Int, into to: UnsafeMutablePointer<Float>) {
  let side = 16
  for top in stride(from: 0, to: rows, by: side) {
    for left in stride(from: 0, to: columns, by: side) {
      for j in left..<min(left + side, columns) {
        for i in top..<min(top + side, rows) { to[j &* rows &+ i] = from[i &* columns &+ j] }
      }
    }
  }
}
