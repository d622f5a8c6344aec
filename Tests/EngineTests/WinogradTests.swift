import Engine
import Testing

private let shapes = [
  (12, 4, 4, 16, 8), (19, 5, 3, 8, 24), (4, 7, 7, 24, 32), (3, 8, 8, 64, 64), (1, 14, 14, 40, 16),
  (2, 13, 9, 16, 40), (5, 28, 28, 16, 16), (1, 33, 30, 8, 16), (7, 6, 4, 128, 136), (33, 15, 16, 16, 8),
  (500, 7, 7, 8, 8),  // more short tiles than a block takes
  (70, 30, 30, 8, 8),  // partial sums of the weight's gradient, the first of short tiles alone
  (10, 16, 16, 256, 136),  // weights that are worth larger blocks
  (6, 7, 8, 96, 80), (8, 8, 7, 272, 64), (8, 8, 7, 64, 272),  // few tiles, and weights that are made panel by panel
  (1, 4, 4, 16, 32), (2, 3, 3, 32, 16),  // one tile and two
]

/// Odd and even extents, some of which end inside a tile.
private let strided = [
  (24, 8, 8, 16, 8), (12, 16, 16, 24, 32), (20, 13, 13, 16, 40), (6, 15, 16, 64, 64), (10, 31, 31, 16, 16),
  (40, 14, 16, 40, 16), (14, 16, 8, 128, 136), (3, 57, 64, 8, 24), (4, 28, 27, 16, 24), (300, 13, 11, 8, 8),
  (70, 60, 59, 8, 8),
  (10, 31, 32, 256, 136), (8, 13, 15, 96, 80), (8, 16, 14, 272, 64), (8, 16, 14, 64, 272),
  (1, 8, 8, 16, 32), (2, 8, 7, 32, 16),
]

/// Channels are given for vectors of eight floats; for wider vectors they are scaled.
private let cases: [ReferenceConvolution] = [(shapes, 1), (strided, 2)].flatMap { shapes, stride in
  shapes.map { n, h, w, c, k in
    ReferenceConvolution(
      n: n, h: h, w: w, c: c * Lanes.scalarCount / 8, k: k * Lanes.scalarCount / 8, kernel: 3, stride: stride,
      padding: 1)
  }
}

private func rms(_ values: some Sequence<Double>) -> Double {
  let (sum, count) = values.reduce((0.0, 0.0)) { ($0.0 + $1 * $1, $0.1 + 1) }
  return (sum / count).squareRoot()
}

/// Rms and largest error of `found`, in units of `model` times the rms of `expected`.
private func errors(_ found: [Float], _ expected: [Double], _ model: Double) -> (rms: Double, greatest: Double) {
  guard found.count == expected.count, found.allSatisfy(\.isFinite) else { return (.infinity, .infinity) }
  let unit = model * rms(expected)
  let differences = zip(found, expected).map { Double($0) - $1 }
  return (rms(differences) / unit, differences.map(abs).max()! / unit)
}

@Test(arguments: cases) func winogradEqualsDefinition(_ reference: ReferenceConvolution) {
  let test = ConvolutionCase(reference, .fast)
  let found = test.run()
  let expected = test.expected()
  let tiles = reference.n * ((reference.height + 3) / 4) * ((reference.width + 3) / 4)
  let model = reference.stride == 1 ? WinogradError.stride1 : .stride2
  let turned = reference.stride == 1 ? model : .stride2Turned
  for (name, error) in [
    ("y", errors(found.y, expected.y, model.output(channels: reference.c))),
    ("dx", errors(found.dx, expected.dx, turned.output(channels: reference.k))),
    ("dw", errors(found.dw, expected.dw, model.weightGradient(tiles: tiles))),
  ] {
    // 100,000 normal values stay within 5 times their rms; sums of few products reach further.
    #expect(error.rms <= 1 && error.greatest <= 8, "\(name) of \(reference): \(error) in units of the model")
  }
}

/// Control: results do not come from the exact path, which would pass the other tests too.
@Test(arguments: cases + large) func fastIsNotExact(_ reference: ReferenceConvolution) {
  let fast = ConvolutionCase(reference, .fast).run()
  let exact = ConvolutionCase(reference, .exact).run()
  #expect(fast.y != exact.y && fast.dx != exact.dx && fast.dw != exact.dw)
}

/// If images are too small for Winograd to pay, or channels do not fill the lanes, the fast path is the exact one.
@Test(arguments: [(1, 1, Lanes.scalarCount), (64, 2, Lanes.scalarCount), (4, 14, Lanes.scalarCount * 3 / 2)])
func smallMapsAreExact(n: Int, extent: Int, channels: Int) {
  let reference = ReferenceConvolution(
    n: n, h: extent, w: extent, c: channels, k: channels, kernel: 3, stride: 1, padding: 1)
  let fast = ConvolutionCase(reference, .fast).run()
  let exact = ConvolutionCase(reference, .exact).run()
  #expect(fast.y == exact.y && fast.dx == exact.dx && fast.dw == exact.dw)
}

@Test(arguments: cases) func winogradAddsToGradients(_ reference: ReferenceConvolution) {
  let test = ConvolutionCase(reference, .fast)
  let zero = test.run()
  let added = test.run(accumulate: true, start: 1024)
  // One rounding of a sum below 2048.
  #expect(zip(zero.dx, added.dx).allSatisfy { abs($0 + 1024 - $1) <= 0x1p-13 })
  #expect(zip(zero.dw, added.dw).allSatisfy { abs($0 + 1024 - $1) <= 0x1p-13 })
}

/// Enough blocks for several threads: eight partial sums, which three threads compute in waves of blocks, and twelve,
/// which each thread computes alone.
private let large = [64, 100].map {
  ReferenceConvolution(
    n: $0, h: 32, w: 32, c: 2 * Lanes.scalarCount, k: Lanes.scalarCount, kernel: 3, stride: 1, padding: 1)
}

/// With few tiles every thread needs its own panels, for which eight threads are too many; then all weights are
/// transformed at once.
@Test(arguments: cases + large, [3, 8]) func threadsDoNotChangeABitOfWinograd(
  _ reference: ReferenceConvolution, threads: Int
) {
  let one = ConvolutionCase(reference, .fast).run()
  let many = ConvolutionCase(reference, threads: threads, .fast).run()
  #expect(one.y == many.y && one.dx == many.dx && one.dw == many.dw, "\(reference)")
}

/// The results of an image do not depend on the number of other images.
@Test(arguments: [1, 2]) func fewTilesGiveTheSameBits(stride: Int) {
  let (few, many) = (8, 40)
  let height = 8 * stride
  let y = [few, many].map {  // both begin with the same draws
    ConvolutionCase(
      ReferenceConvolution(n: $0, h: height, w: height, c: 272, k: 32, kernel: 3, stride: stride, padding: 1), .fast
    ).run().y
  }
  let same = y[0] == Array(y[1].prefix(few * 8 * 8 * 32))
  #expect(same)
}

@Test(arguments: cases) func winogradPlansForSmallerBatches(_ reference: ReferenceConvolution) {
  ConvolutionCase(reference, threads: 2, .fast).checkPlan()
}

/// The documented matrices filter exactly in one dimension, in Double.
@Test func winogradMatricesAreExact() {
  func times(_ matrix: [[Double]], _ vector: [Double]) -> [Double] {
    matrix.map { zip($0, vector).reduce(0) { $0 + $1.0 * $1.1 } }
  }
  func filtered(_ m: WinogradError, _ d: [Double], _ g: [Double]) -> [Double] {
    times(m.s, zip(times(m.k, g), times(m.t, d)).map { $0 * $1 })
  }
  let d = [0.3, -1.7, 2.2, 0.9, -0.4, 1.1, -0.8, 0.5, 1.9]
  let g = [0.8, -0.6, 1.3]
  let one = filtered(.stride1, Array(d[..<6]), g)
  let two = filtered(.stride2, d, g)
  for i in 0..<4 {
    #expect(abs(one[i] - (0..<3).reduce(0) { $0 + d[i + $1] * g[$1] }) < 1e-14)
    #expect(abs(two[i] - (0..<3).reduce(0) { $0 + d[2 * i + $1] * g[$1] }) < 1e-14)
  }
  // dx[2i] = g₁·dy_i, dx[2i + 1] = g₂·dy_i + g₀·dy_{i+1}
  let dx = filtered(.stride2Turned, Array(d[..<5]), g.reversed())
  for i in 0..<4 {
    #expect(abs(dx[2 * i] - g[1] * d[i]) < 1e-14)
    #expect(abs(dx[2 * i + 1] - g[2] * d[i] - g[0] * d[i + 1]) < 1e-14)
  }
}
