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
  MicroKernels.current.multiply(
    ProductSize(m: m, n: Panels.width, k: k, accumulate: accumulate), LeftFactor(columns: Rows(a, step: lda)),
    RightFactor(rows: Rows(b, step: ldb)), MutableRows(c, step: ldc), nil, &next)
}

/// Rows of the factors in a step of each algorithm.
private let shallow = 64
private let deep = Panels.depth
/// Columns of A in a step of each, at most.
private let shallowWidth = 512
private let deepWidth = 256
/// Floats that `multiplyTransposed` works with.
let transposedWork = max(
  2 * shallow * shallowWidth,
  MicroKernels.all.map { pieces(deepWidth, of: $0.rows) * strip($0) + deep * $0.panels * Panels.width }.max()!)

/// Floats from one strip of A to the next: no multiple of 4096 bytes, with room for what a copy writes beyond the last
/// row.
@inline(__always)
private func strip(_ kernels: MicroKernels) -> Int { kernels.rows * deep + 16 }

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
    let calls = pieces(m, of: 6) * (n / Panels.width)
    var first = 0
    while first < k {
      let some = min(shallow, k &- first)
      let left = min(shallow, k &- first &- some)
      var next = Prefetch(
        a.first + (first &+ some) &* a.step, count: left &* a.step,
        and: b.first + (first &+ some) &* b.step, count: left &* b.step, calls: calls)
      var rowsOfA = Rows(a.first + first &* a.step, step: a.step)
      var rowsOfB = Rows(b.first + first &* b.step, step: b.step)
      if packsA {
        pack(rowsOfA, count: some, columns: m, into: work)
        rowsOfA = Rows(work, step: m)
      }
      if packsB {
        let packed = work + shallow * shallowWidth
        pack(rowsOfB, count: some, columns: n, into: packed)
        rowsOfB = Rows(packed, step: n)
      }
      kernels.multiply(
        ProductSize(m: m, n: n, k: some, accumulate: accumulate || first > 0), LeftFactor(columns: rowsOfA),
        RightFactor(rows: rowsOfB), c, nil, &next)
      first &+= some
    }
  }

  /// For all others: as many rows go by at a time as a panel has, so that C, which takes part once in so many steps,
  /// may be anywhere. 256 columns of A lie in the L2 cache, in strips as wide as a tile is high, and the tile's panels
  /// of B in the L1 cache. The hardware does not prefetch rows that are far apart, so the next rows of A, B and C are
  /// prefetched here.
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
    let tall = kernels.rows
    let strip = strip(kernels)
    let panels = work + pieces(deepWidth, of: tall) * strip
    let calls = pieces(width, of: tall)
    let rest = min(height, k &- first &- count)
    let below = Rows(b.first + (first &+ count) &* b.step, step: b.step)
    var nothing = Prefetch(nothingBeside: panels)
    cutStrips(a, count: count, columns: width, strip: tall, into: work, step: strip)
    var column = 0
    let across = kernels.panels &* Panels.width
    var nextOfA = RowsPrefetch(
      Rows(a.first + count &* a.step, step: a.step), count: rest, width: width, calls: calls &* pieces(n, of: across))
    while column < n {
      let columns = min(across, n &- column)
      let from = Rows(b.first + (first &* b.step &+ column), step: b.step)
      pack(from, count: count, columns: columns, into: panels)
      let after = column &+ columns
      var nextOfB = RowsPrefetch(
        after < n ? Rows(from.first + columns, step: b.step) : below, count: after < n ? count : rest,
        width: min(across, after < n ? n &- after : n), calls: calls)
      for call in 0..<calls {
        let size = ProductSize(
          m: min(tall, width &- tall &* call), n: columns, k: count, accumulate: accumulate || first > 0)
        let to = MutableRows(c.first + ((left &+ tall &* call) &* c.step &+ column), step: c.step)
        nextOfA.fetch()
        nextOfB.fetch()
        for row in 0..<size.m {
          for i in stride(from: 0, to: columns, by: 16) { csystem_prefetch_to_write(to.first + (row &* to.step &+ i)) }
        }
        kernels.multiply(
          size, LeftFactor(columns: Rows(work + call &* strip, step: tall)),
          RightFactor(rows: Rows(panels, step: columns)), to, nil, &nothing)
      }
      column = after
    }
  }
}

/// Packs columns of a matrix as strips of `strip` columns, which are `step` floats apart. Whole registers are copied;
/// the next row overwrites what is too much. The loop takes eight rows of all strips at a time, so that these rows stay
/// in the L1 cache however far apart they are.
private func cutStrips(
  _ a: Rows, count: Int, columns: Int, strip: Int, into to: UnsafeMutablePointer<Float>, step: Int
) {
  let whole = pieces(strip, of: 8) &* 8
  for top in stride(from: 0, to: count, by: 8) {
    let some = min(8, count &- top)
    for index in 0..<pieces(columns, of: strip) {
      var from = a.first + (top &* a.step &+ strip &* index)
      var to = to + (index &* step &+ strip &* top)
      let left = columns &- strip &* index
      for _ in 0..<some {
        if left >= whole {
          var i = 0
          while i < whole {
            let eight = UnsafeRawPointer(from + i).loadUnaligned(as: SIMD8<Float>.self)
            UnsafeMutableRawPointer(to + i).storeBytes(of: eight, as: SIMD8<Float>.self)
            i &+= 8
          }
        } else {
          for i in 0..<min(strip, left) { to[i] = from[i] }
        }
        from += a.step
        to += strip
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
