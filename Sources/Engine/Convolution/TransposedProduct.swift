import CSystem

/// C (m, n) ← Aᵀ · B (+ C) with A (k, m) and B (k, n), whose rows are `lda` and `ldb` floats apart: the weight gradient
/// of a convolution, where k is long.
/// - work: `transposedWork` floats, the thread's own.
func multiplyTransposed(
  _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, lda: Int, _ b: UnsafePointer<Float>, ldb: Int,
  into c: UnsafeMutablePointer<Float>, ldc: Int, accumulate: Bool, work: UnsafeMutablePointer<Float>
) {
  if n % Panels.width != 0 {
    sgemm(m, n, k, a, lda: lda, transposed: true, b, ldb: ldb, into: c, ldc: ldc, beta: accumulate ? 1 : 0)
    return
  }
  let product = TransposedProduct(
    m: m, n: n, k: k, a: Rows(a, step: lda), b: Rows(b, step: ldb), c: MutableRows(c, step: ldc),
    accumulate: accumulate, work: work)
  if min(m, n) <= 64 && max(m, n) <= shallowWidth {
    product.multiplyShallow()
  } else {
    product.multiplyDeep()
  }
}

/// C (m, width) ← Aᵀ · B (+ C) with A (k, m) and B (k, width), few rows of either.
func multiplyTransposedByPanel(
  _ m: Int, _ k: Int, _ a: UnsafePointer<Float>, lda: Int, _ b: UnsafePointer<Float>, ldb: Int,
  into c: UnsafeMutablePointer<Float>, ldc: Int, accumulate: Bool
) {
  var next = Prefetch(nothingBeside: a)
  MicroKernels.current.columnsByRows(
    ProductSize(m: m, k: k, accumulate: accumulate), Rows(a, step: lda), Rows(b, step: ldb),
    MutableRows(c, step: ldc), &next)
}

/// Rows of the factors in a step of each algorithm.
private let shallow = 64
private let deep = Panels.depth
/// Columns of A in a step of each, at most.
private let shallowWidth = 512
private let deepWidth = 256
/// Floats from one strip of A to the next: no multiple of 4096 bytes, with room for what a copy writes beyond the last
/// row.
private let strip = 6 * deep + 16

/// Floats that `multiplyTransposed` works with.
let transposedWork = max(
  shallow * (shallowWidth + Panels.width), pieces(deepWidth, of: 6) * strip + deep * Panels.width)

private struct TransposedProduct {
  let m: Int, n: Int, k: Int
  let a: Rows, b: Rows
  let c: MutableRows
  let accumulate: Bool
  let work: UnsafeMutablePointer<Float>

  /// For a narrow factor, where packing the other one would cost too much: 64 rows go by at a time, and C, which is
  /// small as well, stays in the cache. Rows so far apart that they would compete for the same sets of the L1 cache are
  /// packed all the same.
  func multiplyShallow() {
    let kernels = MicroKernels.current
    let packsA = a.step > 512
    let packsB = b.step > 512
    let panel = work + shallow * shallowWidth
    let calls = pieces(m, of: 6) * (n / Panels.width)
    var first = 0
    while first < k {
      let some = min(shallow, k &- first)
      let left = min(shallow, k &- first &- some)
      let size = ProductSize(m: m, k: some, accumulate: accumulate || first > 0)
      var next = Prefetch(
        a.first + (first &+ some) &* a.step, count: left &* a.step,
        and: b.first + (first &+ some) &* b.step, count: left &* b.step, calls: calls)
      var rowsOfA = Rows(a.first + first &* a.step, step: a.step)
      if packsA {
        pack(rowsOfA, count: some, columns: m, into: work)
        rowsOfA = Rows(work, step: m)
      }
      var column = 0
      while column < n {
        var rowsOfB = Rows(b.first + (first &* b.step &+ column), step: b.step)
        if packsB {
          pack(rowsOfB, count: some, columns: Panels.width, into: panel)
          rowsOfB = Rows(panel, step: Panels.width)
        }
        kernels.columnsByRows(size, rowsOfA, rowsOfB, MutableRows(c.first + column, step: c.step), &next)
        column &+= Panels.width
      }
      first &+= some
    }
  }

  /// For all others: as many rows go by at a time as a panel has, so that C, which takes part once in so many steps,
  /// may be anywhere. 256 columns of A lie in the L2 cache as strips of six, a panel of B in the L1 cache. The hardware
  /// does not prefetch rows that are far apart, so the next rows of A, B and C are prefetched here.
  func multiplyDeep() {
    let height = pieces(k, of: pieces(k, of: deep))
    for left in stride(from: 0, to: m, by: deepWidth) {
      let width = min(deepWidth, m &- left)
      for first in stride(from: 0, to: k, by: height) {
        let rowsOfA = Rows(a.first + (first &* a.step &+ left), step: a.step)
        multiplyStrips(rowsOfA, left: left, width: width, first: first, count: min(height, k &- first), height: height)
      }
    }
  }

  /// One step of `multiplyDeep`: `width` columns of A from `left`, `count` rows from `first`.
  @inline(__always)
  private func multiplyStrips(_ a: Rows, left: Int, width: Int, first: Int, count: Int, height: Int) {
    let kernels = MicroKernels.current
    let panel = work + pieces(deepWidth, of: 6) * strip
    let calls = pieces(width, of: 6)
    let rest = min(height, k &- first &- count)
    let below = Rows(b.first + (first &+ count) &* b.step, step: b.step)
    var nothing = Prefetch(nothingBeside: panel)
    cutStrips(a, count: count, columns: width, into: work)
    var nextOfA = RowsPrefetch(
      Rows(a.first + count &* a.step, step: a.step), count: rest, width: width, calls: calls &* (n / Panels.width))
    for column in stride(from: 0, to: n, by: Panels.width) {
      let from = Rows(b.first + (first &* b.step &+ column), step: b.step)
      pack(from, count: count, columns: Panels.width, into: panel)
      let isLast = column &+ Panels.width >= n
      var nextOfB = RowsPrefetch(
        isLast ? below : Rows(from.first + Panels.width, step: b.step), count: isLast ? rest : count,
        width: Panels.width, calls: calls)
      for call in 0..<calls {
        let size = ProductSize(m: min(6, width &- 6 &* call), k: count, accumulate: accumulate || first > 0)
        let to = MutableRows(c.first + ((left &+ 6 &* call) &* c.step &+ column), step: c.step)
        nextOfA.fetch()
        nextOfB.fetch()
        for row in 0..<size.m {
          csystem_prefetch_to_write(to.first + row &* to.step)
          csystem_prefetch_to_write(to.first + (row &* to.step &+ Lanes.scalarCount))
        }
        kernels.stripByPanel(size, Rows(work + call &* strip, step: 6), Rows(panel, step: Panels.width), to, &nothing)
      }
    }
  }
}

/// Packs columns of a matrix as strips of six. Eight floats are copied at once; the next row overwrites the last two.
/// The loop takes eight rows of all strips at a time, so that these rows stay in the L1 cache however far apart they
/// are.
private func cutStrips(_ a: Rows, count: Int, columns: Int, into to: UnsafeMutablePointer<Float>) {
  for top in stride(from: 0, to: count, by: 8) {
    let some = min(8, count &- top)
    for index in 0..<pieces(columns, of: 6) {
      var from = a.first + (top &* a.step &+ 6 &* index)
      var to = to + (index &* strip &+ 6 &* top)
      let left = columns &- 6 &* index
      for _ in 0..<some {
        if left >= 8 {
          let eight = UnsafeRawPointer(from).loadUnaligned(as: SIMD8<Float>.self)
          UnsafeMutableRawPointer(to).storeBytes(of: eight, as: SIMD8<Float>.self)
        } else {
          for i in 0..<min(6, left) { to[i] = from[i] }
        }
        from += a.step
        to += 6
      }
    }
  }
}

/// Packs some columns of a matrix: without gaps between its rows.
@inline(__always)
private func pack(_ from: Rows, count: Int, columns: Int, into to: UnsafeMutablePointer<Float>) {
  for row in 0..<count {
    let from = from.first + row &* from.step
    let to = to + row &* columns
    var i = 0
    while i &+ Lanes.scalarCount <= columns {
      Lanes(loading: from + i).store(to + i, accumulate: false)
      i &+= Lanes.scalarCount
    }
    while i < columns {
      to[i] = from[i]
      i &+= 1
    }
  }
}
