extension MicroKernels {
  /// Vector registers of the instruction set that is compiled for: AVX2, AVX-512 or NEON.
  static let simd = MicroKernels(
    name: "simd",
    isSupported: { true },
    rows: 6,
    panels: 1,
    multiply: { size, a, b, c, epilogue, next in
      if a.columnStep == 1 && b.step == Panels.width {
        rowsByPanels(size, a, b, c, epilogue, &next)
      } else if a.columnStep == 6 && b.step == Panels.width {
        stripsByPanels(size, a, b, c, epilogue, &next)
      } else {
        columnsByRows(size, a, b, c, epilogue, &next)
      }
    })
}

// Each layout is compiled by itself. In one large function the compiler would stop inlining, and would
// compute with three more instructions a row what is constant here.

@inline(never)
private func rowsByPanels(
  _ size: ProductSize, _ a: LeftFactor, _ b: RightFactor, _ c: MutableRows, _ epilogue: Epilogue?,
  _ next: inout Prefetch
) {
  let tile = Tile(
    k: size.k, rowStep: a.rowStep, columnStep: 1, bStep: Panels.width, cStep: c.step, accumulate: size.accumulate)
  forEachTile(tile, size, a, b, c, epilogue, &next)
}

@inline(never)
private func stripsByPanels(
  _ size: ProductSize, _ a: LeftFactor, _ b: RightFactor, _ c: MutableRows, _ epilogue: Epilogue?,
  _ next: inout Prefetch
) {
  let tile = Tile(
    k: size.k, rowStep: 1, columnStep: 6, bStep: Panels.width, cStep: c.step, accumulate: size.accumulate)
  forEachTile(tile, size, a, b, c, epilogue, &next)
}

@inline(never)
private func columnsByRows(
  _ size: ProductSize, _ a: LeftFactor, _ b: RightFactor, _ c: MutableRows, _ epilogue: Epilogue?,
  _ next: inout Prefetch
) {
  precondition(a.rowStep == 1, "rows that are \(a.rowStep) floats apart, and no panels")
  let tile = Tile(
    k: size.k, rowStep: 1, columnStep: a.columnStep, bStep: b.step, cStep: c.step, accumulate: size.accumulate)
  forEachTile(tile, size, a, b, c, epilogue, &next)
}

/// One panel after the other, six rows at a time.
@inline(__always)
private func forEachTile(
  _ tile: Tile, _ size: ProductSize, _ a: LeftFactor, _ b: RightFactor, _ c: MutableRows, _ epilogue: Epilogue?,
  _ next: inout Prefetch
) {
  var column = 0
  var panel = b.first
  while column < size.n {
    var i = 0
    while i < size.m {
      next.fetch()
      let place = i &* c.step &+ column
      let end = TileEnd(epilogue: epilogue, place: place, channel: column)
      tile.multiply(min(6, size.m &- i), a.first + i &* a.rowStep, panel, into: c.first + place, end)
      i &+= 6
    }
    column &+= Panels.width
    panel += b.panelStep
  }
}

/// What follows the sums of a tile: the epilogue, and where it finds the tile's first output.
private struct TileEnd {
  let epilogue: Epilogue?
  let place: Int, channel: Int

  @inline(__always)
  func moved(by offset: Int) -> TileEnd { TileEnd(epilogue: epilogue, place: place &+ offset, channel: channel) }
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
    _ m: Int, _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, into c: UnsafeMutablePointer<Float>,
    _ end: TileEnd
  ) {
    if m == 6 { return sixRows(a, b, into: c, end) }
    var i = 0
    if m >= 4 {
      fourRows(a, b, into: c, end)
      i = 4
    } else if m >= 2 {
      twoRows(a, b, into: c, end)
      i = 2
    }
    if i < m { oneRow(a + i &* rowStep, b, into: c + i &* cStep, end.moved(by: i &* cStep)) }
  }

  @inline(__always)
  private func sixRows(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, into c: UnsafeMutablePointer<Float>, _ end: TileEnd
  ) {
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
    s0.store(c, accumulate, end)
    s1.store(c + cStep, accumulate, end.moved(by: cStep))
    s2.store(c + 2 &* cStep, accumulate, end.moved(by: 2 &* cStep))
    s3.store(c + 3 &* cStep, accumulate, end.moved(by: 3 &* cStep))
    s4.store(c + 4 &* cStep, accumulate, end.moved(by: 4 &* cStep))
    s5.store(c + 5 &* cStep, accumulate, end.moved(by: 5 &* cStep))
  }

  @inline(__always)
  private func fourRows(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, into c: UnsafeMutablePointer<Float>, _ end: TileEnd
  ) {
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
    s0.store(c, accumulate, end)
    s1.store(c + cStep, accumulate, end.moved(by: cStep))
    s2.store(c + 2 &* cStep, accumulate, end.moved(by: 2 &* cStep))
    s3.store(c + 3 &* cStep, accumulate, end.moved(by: 3 &* cStep))
  }

  @inline(__always)
  private func twoRows(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, into c: UnsafeMutablePointer<Float>, _ end: TileEnd
  ) {
    var s0 = RowOfSums()
    var s1 = RowOfSums()
    forEachStep(upper: a, lower: a, b: b) { a, _, b in
      s0.add(a[0], b)
      s1.add(a[rowStep], b)
    }
    s0.store(c, accumulate, end)
    s1.store(c + cStep, accumulate, end.moved(by: cStep))
  }

  @inline(__always)
  private func oneRow(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, into c: UnsafeMutablePointer<Float>, _ end: TileEnd
  ) {
    var sums = RowOfSums()
    forEachStep(upper: a, lower: a, b: b) { a, _, b in sums.add(a[0], b) }
    sums.store(c, accumulate, end)
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
  func store(_ c: UnsafeMutablePointer<Float>, _ accumulate: Bool, _ end: TileEnd) {
    guard let epilogue = end.epilogue else {
      left.store(c, accumulate: accumulate)
      right.store(c + Lanes.scalarCount, accumulate: accumulate)
      return
    }
    let width = Lanes.scalarCount
    let (z, beside) = accumulate ? (left + Lanes(loading: c), right + Lanes(loading: c + width)) : (left, right)
    epilogue.apply(z, at: end.place, channel: end.channel).store(c, accumulate: false)
    epilogue.apply(beside, at: end.place &+ width, channel: end.channel &+ width).store(c + width, accumulate: false)
  }
}
