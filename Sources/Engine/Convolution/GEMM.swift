import CSystem

/// The second factor B (rows, columns) of a product A · B, in the order in which the kernel reads it: blocks of rows, in
/// each of them panels as wide as two registers; the last panel is padded. A panel takes 16 KiB and stays in the L1 cache
/// while A goes by, of which nothing is copied.
///
/// OpenBLAS copies A as well, which for the 64 to 512 channels of a convolution takes as long as a tenth to a half of
/// the arithmetic: on one core with AVX2 and a peak of 117 GFLOP/s it reaches 70 to 106 there, this 100 to 113.
struct Panels {
  /// Columns and rows of a panel: 16 and 256, with AVX-512 32 and 128.
  static let width = 2 * Lanes.scalarCount, depth = 4096 / width

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
      let some = min(block, m &- first)
      let next = min(block, m &- first &- some)
      let calls = pieces(some, of: 6) * pieces(columns, of: Panels.width) * pieces(rows, of: Panels.depth)
      var ahead = Ahead(
        a + (first &+ some) &* rows, next &* rows, c + (first &+ some) &* columns, next &* columns, calls)
      var top = 0
      while top < rows {
        let height = min(Panels.depth, rows &- top)
        let add = accumulate || top > 0
        var column = 0
        while column < columns {
          let panel = data + place(top, column)
          let from = a + (first &* rows &+ top)
          let to = c + (first &* columns &+ column)
          if column &+ Panels.width <= columns {
            rowsByPanel(some, height, from, rows, panel, to, columns, add, &ahead)
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
        let some = min(6, m - first)
        let square = square.baseAddress!
        rowsByPanel(some, height, a + first &* rows, rows, panel, square, Panels.width, false, &ahead)
        for row in 0..<some {
          let to = c + (first &+ row) &* columns
          let from = square + row &* Panels.width
          for i in 0..<count { to[i] = accumulate ? to[i] + from[i] : from[i] }
        }
      }
    }
  }
}

/// C (m, width) ← A · B (+ C) with A (m, k), and B (k, width) a panel.
func multiplyByPanel(
  _ m: Int, _ k: Int, _ a: UnsafePointer<Float>, lda: Int, _ panel: UnsafePointer<Float>,
  into c: UnsafeMutablePointer<Float>,
  ldc: Int, accumulate: Bool
) {
  var ahead = Ahead(a, 0, c, 0, 1)
  rowsByPanel(m, k, a, lda, panel, c, ldc, accumulate, &ahead)
}

/// C (m, width) ← Aᵀ · B (+ C) with A (k, m) and B (k, width), few rows of either.
func multiplyTransposedByPanel(
  _ m: Int, _ k: Int, _ a: UnsafePointer<Float>, lda: Int, _ b: UnsafePointer<Float>, ldb: Int,
  into c: UnsafeMutablePointer<Float>, ldc: Int, accumulate: Bool
) {
  var ahead = Ahead(a, 0, c, 0, 1)
  columnsByRows(m, k, a, lda, b, ldb, c, ldc, accumulate, &ahead)
}

/// C (m, n) ← Aᵀ · B (+ C) with A (k, m) and B (k, n), which lie `lda` and `ldb` floats a row apart: the weight gradient
/// of a convolution, where k is long.
/// - work: `transposedWork` floats, the thread's own.
func multiplyTransposed(
  _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, lda: Int, _ b: UnsafePointer<Float>, ldb: Int,
  into c: UnsafeMutablePointer<Float>, ldc: Int, accumulate: Bool, work: UnsafeMutablePointer<Float>
) {
  if n % Panels.width != 0 {
    sgemm(m, n, k, a, lda: lda, transposed: true, b, ldb: ldb, into: c, ldc: ldc, beta: accumulate ? 1 : 0)
  } else if min(m, n) <= 64 && max(m, n) <= shallowWidth {
    multiplyShallow(m, n, k, a, lda, b, ldb, c, ldc, accumulate, work)
  } else {
    multiplyDeep(m, n, k, a, lda, b, ldb, c, ldc, accumulate, work)
  }
}

/// Rows of the factors in a step, of both ways.
private let shallow = 64
private let deep = Panels.depth
/// Columns at most in a step of A.
private let shallowWidth = 512
private let deepWidth = 256
/// Floats of a strip, and from one to the next: other than a multiple of 4096 bytes, and room for what a copy writes
/// beyond the last row.
private let strip = 6 * deep + 16

/// Floats that `multiplyTransposed` works with.
let transposedWork = max(
  shallow * (shallowWidth + Panels.width), pieces(deepWidth, of: 6) * strip + deep * Panels.width)

/// Where one of the factors is narrow, and to copy the other would be felt: 64 rows go by at a time and C, small as well,
/// stays in the cache. Rows that are so far apart that they would fight for the same sets of the L1 cache are copied
/// all the same.
private func multiplyShallow(
  _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, _ lda: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
  _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ accumulate: Bool, _ work: UnsafeMutablePointer<Float>
) {
  let farA = lda > 512
  let farB = ldb > 512
  let panel = work + shallow * shallowWidth
  var first = 0
  while first < k {
    let some = min(shallow, k &- first)
    let next = min(shallow, k &- first &- some)
    let calls = pieces(m, of: 6) * (n / Panels.width)
    var ahead = Ahead(a + (first &+ some) &* lda, next &* lda, b + (first &+ some) &* ldb, next &* ldb, calls)
    let a = a + first &* lda
    if farA { gather(a, lda, some, columns: m, into: work) }
    var column = 0
    while column < n {
      let b = b + (first &* ldb &+ column)
      if farB { gather(b, ldb, some, columns: Panels.width, into: panel) }
      columnsByRows(
        m, some, farA ? UnsafePointer(work) : a, farA ? m : lda, farB ? UnsafePointer(panel) : b,
        farB ? Panels.width : ldb, c + column, ldc, accumulate || first > 0, &ahead)
      column &+= Panels.width
    }
    first &+= some
  }
}

/// Elsewhere as many rows go by at a time as a panel has, so that C, which takes part once in so many steps, may be
/// anywhere. 256 columns of A lie in the L2 cache as strips of six, a panel of B in the L1 cache. The processor does not
/// foresee the rows of either, so the next ones are asked for, as are C's.
private func multiplyDeep(
  _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, _ lda: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
  _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ accumulate: Bool, _ work: UnsafeMutablePointer<Float>
) {
  let height = pieces(k, of: pieces(k, of: deep))
  let panel = work + pieces(deepWidth, of: 6) * strip
  for left in stride(from: 0, to: m, by: deepWidth) {
    let width = min(deepWidth, m &- left)
    let calls = pieces(width, of: 6)
    for first in stride(from: 0, to: k, by: height) {
      let some = min(height, k &- first)
      let next = min(height, k &- first &- some)
      let a = a + (first &* lda &+ left)
      let below = b + (first &+ some) &* ldb
      cutStrips(a, lda, some, width, into: work)
      var aheadA = RowsAhead(a + some &* lda, lda, next, width, calls &* (n / Panels.width))
      for column in stride(from: 0, to: n, by: Panels.width) {
        let from = b + (first &* ldb &+ column)
        gather(from, ldb, some, columns: Panels.width, into: panel)
        var aheadB =
          column &+ Panels.width < n
          ? RowsAhead(from + Panels.width, ldb, some, Panels.width, calls)
          : RowsAhead(below, ldb, next, Panels.width, calls)
        for call in 0..<calls {
          let rows = min(6, width &- 6 &* call)
          let to = c + ((left &+ 6 &* call) &* ldc &+ column)
          aheadA.fetch()
          aheadB.fetch()
          for row in 0..<rows {
            csystem_prefetch_to_write(to + row &* ldc)
            csystem_prefetch_to_write(to + (row &* ldc &+ Lanes.scalarCount))
          }
          stripByPanel(rows, some, work + call &* strip, panel, to, ldc, accumulate || first > 0)
        }
      }
    }
  }
}

/// Columns of a matrix as strips of six. Eight are copied at once, two of which the next row overwrites: eight rows of a
/// strip at a time, so that theirs stay in the L1 cache wherever they are.
private func cutStrips(
  _ a: UnsafePointer<Float>, _ lda: Int, _ rows: Int, _ columns: Int, into to: UnsafeMutablePointer<Float>
) {
  for top in stride(from: 0, to: rows, by: 8) {
    let some = min(8, rows &- top)
    for index in 0..<pieces(columns, of: 6) {
      var from = a + (top &* lda &+ 6 &* index)
      var to = to + (index &* strip &+ 6 &* top)
      let count = columns &- 6 &* index
      for _ in 0..<some {
        if count >= 8 {
          let eight = UnsafeRawPointer(from).loadUnaligned(as: SIMD8<Float>.self)
          UnsafeMutableRawPointer(to).storeBytes(of: eight, as: SIMD8<Float>.self)
        } else {
          for i in 0..<min(6, count) { to[i] = from[i] }
        }
        from += lda
        to += 6
      }
    }
  }
}

/// Some columns of a matrix, without gaps.
@inline(__always)
private func gather(
  _ from: UnsafePointer<Float>, _ ld: Int, _ rows: Int, columns: Int, into to: UnsafeMutablePointer<Float>
) {
  for row in 0..<rows {
    let from = from + row &* ld
    let to = to + row &* columns
    var i = 0
    while i &+ Lanes.scalarCount <= columns {
      put(load(from + i), to + i, false)
      i &+= Lanes.scalarCount
    }
    while i < columns {
      to[i] = from[i]
      i &+= 1
    }
  }
}

// MARK: The kernel

@inline(__always)
private func load(_ from: UnsafePointer<Float>) -> Lanes { UnsafeRawPointer(from).loadUnaligned(as: Lanes.self) }

/// A row of a panel.
@inline(__always)
private func pair(_ from: UnsafePointer<Float>) -> (left: Lanes, right: Lanes) {
  (load(from), load(from + Lanes.scalarCount))
}

@inline(__always)
private func put(_ value: Lanes, _ to: UnsafeMutablePointer<Float>, _ accumulate: Bool) {
  UnsafeMutableRawPointer(to).storeBytes(of: accumulate ? value + load(to) : value, as: Lanes.self)
}

/// In floats.
private let cacheLine = 16

/// What the next block needs, asked for in as many small portions as there are calls of the kernel.
private struct Ahead {
  private var first: UnsafePointer<Float>, second: UnsafePointer<Float>
  private let firstEnd: UnsafePointer<Float>, secondEnd: UnsafePointer<Float>
  private let firstStep: Int, secondStep: Int

  /// So many floats from two places, the second of which may be written.
  init(_ first: UnsafePointer<Float>, _ m: Int, _ second: UnsafePointer<Float>, _ n: Int, _ calls: Int) {
    self.first = first
    self.second = second
    firstEnd = first + m
    secondEnd = second + n
    firstStep = pieces(pieces(m, of: cacheLine), of: calls) * cacheLine
    secondStep = pieces(pieces(n, of: cacheLine), of: calls) * cacheLine
  }

  @inline(__always)
  mutating func fetch() {
    let firstStop = min(first + firstStep, firstEnd)
    let secondStop = min(second + secondStep, secondEnd)
    while first < firstStop {
      csystem_prefetch(first)
      first += cacheLine
    }
    while second < secondStop {
      csystem_prefetch_to_write(second)
      second += cacheLine
    }
  }
}

/// The same for rows of a matrix that do not follow one another.
private struct RowsAhead {
  private var from: UnsafePointer<Float>, end: UnsafePointer<Float>, rows: Int
  private let ld: Int, width: Int, step: Int

  init(_ from: UnsafePointer<Float>, _ ld: Int, _ rows: Int, _ width: Int, _ calls: Int) {
    self.from = from
    end = from + width
    self.rows = rows
    self.ld = ld
    self.width = width
    step = pieces(rows * pieces(width, of: cacheLine), of: calls)
  }

  @inline(__always)
  mutating func fetch() {
    var i = 0
    while i < step && rows > 0 {
      csystem_prefetch(from)
      from += cacheLine
      if from >= end {
        from = end + (ld &- width)
        end += ld
        rows &-= 1
      }
      i &+= 1
    }
  }
}

// A way through the kernel for each order in which the factors lie, compiled by itself: within a large caller the
// compiler would stop inlining, and the kernel work out with three more instructions a row what is constant here.

/// C (m, width) ← A · panel (+ C) with A (m, k) in row order.
@inline(never)
private func rowsByPanel(
  _ m: Int, _ k: Int, _ a: UnsafePointer<Float>, _ lda: Int, _ panel: UnsafePointer<Float>,
  _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ accumulate: Bool, _ ahead: inout Ahead
) {
  var i = 0
  while i < m {
    ahead.fetch()
    rowsAtOnce(min(6, m &- i), k, a + i &* lda, lda, 1, panel, Panels.width, c + i &* ldc, ldc, accumulate)
    i &+= 6
  }
}

/// C (m, width) ← Aᵀ · B (+ C) with A (k, m) and B (k, width) in row order.
@inline(never)
private func columnsByRows(
  _ m: Int, _ k: Int, _ a: UnsafePointer<Float>, _ lda: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
  _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ accumulate: Bool, _ ahead: inout Ahead
) {
  var i = 0
  while i < m {
    ahead.fetch()
    rowsAtOnce(min(6, m &- i), k, a + i, 1, lda, b, ldb, c + i &* ldc, ldc, accumulate)
    i &+= 6
  }
}

/// C (m, width) ← Aᵀ · panel (+ C) with a strip A (k, 6), of which m columns count.
@inline(never)
private func stripByPanel(
  _ m: Int, _ k: Int, _ strip: UnsafePointer<Float>, _ panel: UnsafePointer<Float>, _ c: UnsafeMutablePointer<Float>,
  _ ldc: Int, _ accumulate: Bool
) {
  rowsAtOnce(m, k, strip, 1, 6, panel, Panels.width, c, ldc, accumulate)
}

/// Up to six rows of C (m, width) ← A · B (+ C), with A(i, p) = a[i·rowStep + p·columnStep]: six rows' twelve sums are what
/// AVX2's sixteen registers hold beside the factors, and more than two FMA units with a latency of four need.
@inline(__always)
private func rowsAtOnce(
  _ m: Int, _ k: Int, _ a: UnsafePointer<Float>, _ rowStep: Int, _ columnStep: Int, _ panel: UnsafePointer<Float>,
  _ panelStep: Int, _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ accumulate: Bool
) {
  if m == 6 { return sixRows(k, a, rowStep, columnStep, panel, panelStep, c, ldc, accumulate) }
  var i = 0
  if m >= 4 {
    fourRows(k, a, rowStep, columnStep, panel, panelStep, c, ldc, accumulate)
    i = 4
  } else if m >= 2 {
    twoRows(k, a, rowStep, columnStep, panel, panelStep, c, ldc, accumulate)
    i = 2
  }
  if i < m { oneRow(k, a + i &* rowStep, columnStep, panel, panelStep, c + i &* ldc, accumulate) }
}

/// What the kernel has of one row of C: two registers of sums.
private struct RowOfSums {
  private var left = Lanes.zero, right = Lanes.zero

  @inline(__always)
  mutating func add(_ a: Float, _ b: (left: Lanes, right: Lanes)) {
    let a = Lanes(repeating: a)
    left.addProduct(a, b.left)
    right.addProduct(a, b.right)
  }

  @inline(__always)
  func store(_ c: UnsafeMutablePointer<Float>, _ accumulate: Bool) {
    put(left, c, accumulate)
    put(right, c + Lanes.scalarCount, accumulate)
  }
}

/// Calls `body` for every row of a panel with it and where A's factors are: `upper` and `lower`, three rows apart, so
/// that three offsets reach six rows. Four at a time, for a core whose front end another thread shares hands out three
/// instructions a cycle, and pointers and counter would be a quarter of them.
@inline(__always)
private func forEachStep(
  _ k: Int, _ upper: UnsafePointer<Float>, _ lower: UnsafePointer<Float>, _ columnStep: Int, _ b: UnsafePointer<Float>,
  _ ldb: Int,
  _ body: (_ upper: UnsafePointer<Float>, _ lower: UnsafePointer<Float>, _ b: (left: Lanes, right: Lanes)) -> Void
) {
  var upper = upper
  var lower = lower
  var b = b
  var rest = k
  while rest >= 4 {
    body(upper, lower, pair(b))
    body(upper + columnStep, lower + columnStep, pair(b + ldb))
    body(upper + 2 &* columnStep, lower + 2 &* columnStep, pair(b + 2 &* ldb))
    body(upper + 3 &* columnStep, lower + 3 &* columnStep, pair(b + 3 &* ldb))
    upper += 4 &* columnStep
    lower += 4 &* columnStep
    b += 4 &* ldb
    rest &-= 4
  }
  while rest > 0 {
    body(upper, lower, pair(b))
    upper += columnStep
    lower += columnStep
    b += ldb
    rest &-= 1
  }
}

@inline(__always)
private func sixRows(
  _ k: Int, _ a: UnsafePointer<Float>, _ rowStep: Int, _ columnStep: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
  _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ accumulate: Bool
) {
  var (s0, s1, s2) = (RowOfSums(), RowOfSums(), RowOfSums())
  var (s3, s4, s5) = (s0, s1, s2)
  forEachStep(k, a, a + 3 &* rowStep, columnStep, b, ldb) { upper, lower, b in
    s0.add(upper[0], b)
    s1.add(upper[rowStep], b)
    s2.add(upper[2 &* rowStep], b)
    s3.add(lower[0], b)
    s4.add(lower[rowStep], b)
    s5.add(lower[2 &* rowStep], b)
  }
  s0.store(c, accumulate)
  s1.store(c + ldc, accumulate)
  s2.store(c + 2 &* ldc, accumulate)
  s3.store(c + 3 &* ldc, accumulate)
  s4.store(c + 4 &* ldc, accumulate)
  s5.store(c + 5 &* ldc, accumulate)
}

@inline(__always)
private func fourRows(
  _ k: Int, _ a: UnsafePointer<Float>, _ rowStep: Int, _ columnStep: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
  _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ accumulate: Bool
) {
  var (s0, s1) = (RowOfSums(), RowOfSums())
  var (s2, s3) = (s0, s1)
  forEachStep(k, a, a + 2 &* rowStep, columnStep, b, ldb) { upper, lower, b in
    s0.add(upper[0], b)
    s1.add(upper[rowStep], b)
    s2.add(lower[0], b)
    s3.add(lower[rowStep], b)
  }
  s0.store(c, accumulate)
  s1.store(c + ldc, accumulate)
  s2.store(c + 2 &* ldc, accumulate)
  s3.store(c + 3 &* ldc, accumulate)
}

@inline(__always)
private func twoRows(
  _ k: Int, _ a: UnsafePointer<Float>, _ rowStep: Int, _ columnStep: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
  _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ accumulate: Bool
) {
  var s0 = RowOfSums()
  var s1 = RowOfSums()
  forEachStep(k, a, a, columnStep, b, ldb) { a, _, b in
    s0.add(a[0], b)
    s1.add(a[rowStep], b)
  }
  s0.store(c, accumulate)
  s1.store(c + ldc, accumulate)
}

@inline(__always)
private func oneRow(
  _ k: Int, _ a: UnsafePointer<Float>, _ columnStep: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
  _ c: UnsafeMutablePointer<Float>, _ accumulate: Bool
) {
  var sums = RowOfSums()
  forEachStep(k, a, a, columnStep, b, ldb) { a, _, b in sums.add(a[0], b) }
  sums.store(c, accumulate)
}

/// (columns, rows) ← (rows, columns)ᵀ, whose rows are `ld` floats apart; a square that stays in the L1 cache at a time.
func transpose(_ from: UnsafePointer<Float>, ld: Int, _ rows: Int, _ columns: Int, into to: UnsafeMutablePointer<Float>)
{
  let side = 16
  for top in stride(from: 0, to: rows, by: side) {
    for left in stride(from: 0, to: columns, by: side) {
      for j in left..<min(left + side, columns) {
        for i in top..<min(top + side, rows) { to[j &* rows &+ i] = from[i &* ld &+ j] }
      }
    }
  }
}
