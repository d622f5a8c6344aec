extension MicroKernels {
  /// Vector registers of the instruction set that is compiled for: AVX2, AVX-512 or NEON.
  static let simd = MicroKernels(
    name: "simd",
    isSupported: { true },
    rowsByPanel: simdRowsByPanel,
    columnsByRows: simdColumnsByRows,
    farRows: .max,
    stripByPanel: simdStripByPanel)
}

// Each layout is compiled by itself. In one large function the compiler would stop inlining, and would compute with
// three more instructions a row what is constant here.

@inline(never)
@Sendable
private func simdRowsByPanel(
  _ size: ProductSize, _ a: Rows, _ panel: Rows, _ c: MutableRows, _ next: inout Prefetch
) {
  var i = 0
  while i < size.m {
    next.fetch()
    Tile(k: size.k, rowStep: a.step, columnStep: 1, bStep: Panels.width, cStep: c.step, accumulate: size.accumulate)
      .multiply(min(6, size.m &- i), a.first + i &* a.step, panel.first, into: c.first + i &* c.step)
    i &+= 6
  }
}

@inline(never)
@Sendable
private func simdColumnsByRows(_ size: ProductSize, _ a: Rows, _ b: Rows, _ c: MutableRows, _ next: inout Prefetch) {
  var i = 0
  while i < size.m {
    next.fetch()
    Tile(k: size.k, rowStep: 1, columnStep: a.step, bStep: b.step, cStep: c.step, accumulate: size.accumulate)
      .multiply(min(6, size.m &- i), a.first + i, b.first, into: c.first + i &* c.step)
    i &+= 6
  }
}

@inline(never)
@Sendable
private func simdStripByPanel(
  _ size: ProductSize, _ strip: Rows, _ panel: Rows, _ c: MutableRows, _ next: inout Prefetch
) {
  Tile(k: size.k, rowStep: 1, columnStep: 6, bStep: Panels.width, cStep: c.step, accumulate: size.accumulate)
    .multiply(size.m, strip.first, panel.first, into: c.first)
}

/// Up to six rows of C (m, width) ← A · B (+ C), with A(i, p) = a[i·rowStep + p·columnStep].
///
/// The twelve sums of six rows are what AVX2's sixteen registers hold beside the factors, and more than two FMA units
/// with a latency of four need.
private struct Tile {
  let k: Int
  let rowStep: Int, columnStep: Int
  let bStep: Int, cStep: Int
  let accumulate: Bool

  @inline(__always)
  func multiply(
    _ m: Int, _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, into c: UnsafeMutablePointer<Float>
  ) {
    if m == 6 { return sixRows(a, b, into: c) }
    var i = 0
    if m >= 4 {
      fourRows(a, b, into: c)
      i = 4
    } else if m >= 2 {
      twoRows(a, b, into: c)
      i = 2
    }
    if i < m { oneRow(a + i &* rowStep, b, into: c + i &* cStep) }
  }

  @inline(__always)
  private func sixRows(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, into c: UnsafeMutablePointer<Float>) {
    var s0 = RowOfSums()
    var s1 = RowOfSums()
    var s2 = RowOfSums()
    var s3 = RowOfSums()
    var s4 = RowOfSums()
    var s5 = RowOfSums()
    forEachStep(upper: a, lower: a + 3 &* rowStep, b: b) { upper, lower, b in
      s0.add(upper[0], b)
      s1.add(upper[rowStep], b)
      s2.add(upper[2 &* rowStep], b)
      s3.add(lower[0], b)
      s4.add(lower[rowStep], b)
      s5.add(lower[2 &* rowStep], b)
    }
    s0.store(c, accumulate)
    s1.store(c + cStep, accumulate)
    s2.store(c + 2 &* cStep, accumulate)
    s3.store(c + 3 &* cStep, accumulate)
    s4.store(c + 4 &* cStep, accumulate)
    s5.store(c + 5 &* cStep, accumulate)
  }

  @inline(__always)
  private func fourRows(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, into c: UnsafeMutablePointer<Float>) {
    var s0 = RowOfSums()
    var s1 = RowOfSums()
    var s2 = RowOfSums()
    var s3 = RowOfSums()
    forEachStep(upper: a, lower: a + 2 &* rowStep, b: b) { upper, lower, b in
      s0.add(upper[0], b)
      s1.add(upper[rowStep], b)
      s2.add(lower[0], b)
      s3.add(lower[rowStep], b)
    }
    s0.store(c, accumulate)
    s1.store(c + cStep, accumulate)
    s2.store(c + 2 &* cStep, accumulate)
    s3.store(c + 3 &* cStep, accumulate)
  }

  @inline(__always)
  private func twoRows(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, into c: UnsafeMutablePointer<Float>) {
    var s0 = RowOfSums()
    var s1 = RowOfSums()
    forEachStep(upper: a, lower: a, b: b) { a, _, b in
      s0.add(a[0], b)
      s1.add(a[rowStep], b)
    }
    s0.store(c, accumulate)
    s1.store(c + cStep, accumulate)
  }

  @inline(__always)
  private func oneRow(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, into c: UnsafeMutablePointer<Float>) {
    var sums = RowOfSums()
    forEachStep(upper: a, lower: a, b: b) { a, _, b in sums.add(a[0], b) }
    sums.store(c, accumulate)
  }

  /// Calls `body` for every row of B with that row and the places of A's factors: `upper` and `lower`, three rows
  /// apart, so that three offsets reach six rows.
  ///
  /// Unrolled by four: a core whose front end is shared with another thread issues three instructions a cycle, and
  /// pointers and counter would be a quarter of them.
  @inline(__always)
  private func forEachStep(
    upper: UnsafePointer<Float>, lower: UnsafePointer<Float>, b: UnsafePointer<Float>,
    _ body: (_ upper: UnsafePointer<Float>, _ lower: UnsafePointer<Float>, _ b: LanePair) -> Void
  ) {
    var upper = upper
    var lower = lower
    var b = b
    var rest = k
    while rest >= 4 {
      body(upper, lower, LanePair(b))
      body(upper + columnStep, lower + columnStep, LanePair(b + bStep))
      body(upper + 2 &* columnStep, lower + 2 &* columnStep, LanePair(b + 2 &* bStep))
      body(upper + 3 &* columnStep, lower + 3 &* columnStep, LanePair(b + 3 &* bStep))
      upper += 4 &* columnStep
      lower += 4 &* columnStep
      b += 4 &* bStep
      rest &-= 4
    }
    while rest > 0 {
      body(upper, lower, LanePair(b))
      upper += columnStep
      lower += columnStep
      b += bStep
      rest &-= 1
    }
  }
}

/// A row of B: two registers.
private struct LanePair {
  let left: Lanes, right: Lanes

  @inline(__always)
  init(_ from: UnsafePointer<Float>) {
    left = Lanes(loading: from)
    right = Lanes(loading: from + Lanes.scalarCount)
  }
}

/// A row of C: two registers of sums.
private struct RowOfSums {
  private var left = Lanes.zero, right = Lanes.zero

  @inline(__always)
  mutating func add(_ a: Float, _ b: LanePair) {
    let a = Lanes(repeating: a)
    left.addProduct(a, b.left)
    right.addProduct(a, b.right)
  }

  @inline(__always)
  func store(_ c: UnsafeMutablePointer<Float>, _ accumulate: Bool) {
    left.store(c, accumulate: accumulate)
    right.store(c + Lanes.scalarCount, accumulate: accumulate)
  }
}
