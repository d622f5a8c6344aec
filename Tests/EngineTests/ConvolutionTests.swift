import Engine
import Testing

/// Half of an ulp of 1: the relative error of one rounding.
private let u = 0x1p-24

private let cases: [ReferenceConvolution] = [
  // 1×1, one GEMM per block of rows; 1100 rows are more than a block
  .init(n: 2, h: 5, w: 7, c: 12, k: 5, kernel: 1, stride: 1, padding: 0),
  .init(n: 11, h: 10, w: 10, c: 3, k: 4, kernel: 1, stride: 1, padding: 0),
  .init(n: 2, h: 3, w: 3, c: 130, k: 70, kernel: 1, stride: 1, padding: 0),
  // weight gradients in parts: of channels, of filters
  .init(n: 2, h: 4, w: 4, c: 530, k: 7, kernel: 1, stride: 1, padding: 0),
  .init(n: 2, h: 4, w: 4, c: 7, k: 530, kernel: 1, stride: 1, padding: 0),
  // panels of the weight gradient: narrow enough to be read in place; wider, with two partial sums
  .init(n: 3, h: 9, w: 5, c: 13, k: 64, kernel: 1, stride: 1, padding: 0),
  .init(n: 5, h: 41, w: 41, c: 66, k: 96, kernel: 1, stride: 1, padding: 0),
  .init(n: 2, h: 9, w: 13, c: 3, k: 32, kernel: 3, stride: 1, padding: 1),
  // 1×1 with stride, odd and even
  .init(n: 3, h: 7, w: 5, c: 5, k: 12, kernel: 1, stride: 2, padding: 0),
  .init(n: 2, h: 8, w: 8, c: 16, k: 32, kernel: 1, stride: 2, padding: 0),
  .init(n: 2, h: 7, w: 8, c: 6, k: 530, kernel: 1, stride: 2, padding: 0),
  // 3×3
  .init(n: 1, h: 1, w: 1, c: 1, k: 1, kernel: 3, stride: 1, padding: 1),
  .init(n: 2, h: 7, w: 6, c: 3, k: 5, kernel: 3, stride: 1, padding: 1),
  .init(n: 3, h: 9, w: 4, c: 5, k: 12, kernel: 3, stride: 2, padding: 1),
  .init(n: 1, h: 6, w: 7, c: 12, k: 3, kernel: 3, stride: 1, padding: 0),
  .init(n: 2, h: 5, w: 5, c: 70, k: 32, kernel: 3, stride: 2, padding: 1),
  // the stem, and a kernel wider than its input
  .init(n: 2, h: 15, w: 17, c: 3, k: 8, kernel: 7, stride: 2, padding: 3),
  .init(n: 1, h: 3, w: 2, c: 1, k: 5, kernel: 7, stride: 2, padding: 3),
  .init(n: 2, h: 9, w: 9, c: 2, k: 3, kernel: 5, stride: 3, padding: 2),
  // several blocks of lines in one image; several partial sums of the weight gradient
  .init(n: 2, h: 70, w: 70, c: 16, k: 2, kernel: 3, stride: 1, padding: 1),
  .init(n: 5, h: 64, w: 64, c: 2, k: 3, kernel: 3, stride: 1, padding: 1),
  .init(n: 5, h: 64, w: 64, c: 3, k: 2, kernel: 1, stride: 1, padding: 0),
]

@Test(arguments: cases) func convolutionEqualsItsDefinition(_ reference: ReferenceConvolution) {
  let test = ConvolutionCase(reference)
  let found = test.run()
  let expected = test.expected()
  let magnitudes = test.expected(magnitudes: true)
  // A sum of m products is within m·u·Σ|products| of the truth in any order of summation.
  let products = Double(reference.kernel * reference.kernel)
  let y = worst(found.y, expected.y, magnitudes.y, unit: u * products * Double(reference.c))
  let dx = worst(found.dx, expected.dx, magnitudes.dx, unit: u * products * Double(reference.k))
  let rows = Double(reference.n * reference.height * reference.width)
  let dw = worst(found.dw, expected.dw, magnitudes.dw, unit: u * (rows + 1))
  #expect(y <= 1 && dx <= 1 && dw <= 1, "\(test.description): errors in units of the bound \(y) \(dx) \(dw)")
}

@Test(arguments: cases) func backwardAddsToGradients(_ reference: ReferenceConvolution) {
  let test = ConvolutionCase(reference)
  let zero = test.run()
  let added = test.run(accumulate: true, start: 1000)
  for (from, to) in [(zero.dx, added.dx), (zero.dw, added.dw)] {
    // Every addition to a number near 1000 rounds by at most half an ulp of 1024 and its neighbours.
    let bound = Float(64 * 2 * reference.kernel * reference.kernel) * 1000 * Float(u)
    #expect(zip(from, to).allSatisfy { abs($0 + 1000 - $1) <= bound + abs($0) * 1e-5 }, "\(test.description)")
  }
}

@Test(arguments: cases) func threadsDoNotChangeABit(_ reference: ReferenceConvolution) {
  let one = ConvolutionCase(reference).run()
  let three = ConvolutionCase(reference, threads: 3).run()
  #expect(one.y == three.y && one.dx == three.dx && one.dw == three.dw, "\(reference)")
}

@Test(arguments: cases) func dryRunPlansForSmallerBatches(_ reference: ReferenceConvolution) {
  ConvolutionCase(reference, threads: 2).checkPlan()
}

/// Tests the reference: its gradients against central differences of ⟨dy, forward⟩. These are exact up to rounding,
/// because it is linear in both arguments.
@Test(arguments: cases.filter { $0.weights < 2000 && $0.inputs < 2000 })
func referenceGradientsEqualFiniteDifferences(_ reference: ReferenceConvolution) {
  let test = ConvolutionCase(reference)
  let x = test.x.buffer.map(Double.init)
  let dy = test.dy.buffer.map(Double.init)
  let weight = test.weight.map(Double.init)
  func value(_ x: [Double], _ weight: [Double]) -> Double {
    zip(reference.forward(x, weight), dy).reduce(0) { $0 + $1.0 * $1.1 }
  }
  func difference(_ values: [Double], _ i: Int, _ f: ([Double]) -> Double) -> Double {
    var up = values
    var down = values
    up[i] += 0.5
    down[i] -= 0.5
    return f(up) - f(down)
  }
  let dx = reference.dataGradient(dy, weight)
  let dw = reference.weightGradient(dy, x)
  for i in stride(from: 0, to: x.count, by: 7) {
    #expect(abs(difference(x, i) { value($0, weight) } - dx[i]) < 1e-9)
  }
  for i in stride(from: 0, to: weight.count, by: 7) {
    #expect(abs(difference(weight, i) { value(x, $0) } - dw[i]) < 1e-9)
  }
}
