import Foundation
import Randomness
import Testing

/// Tests of the gradient check itself.
@Suite struct GradientCheckTests {
  private let x = [0.3, -1.2, 2, 0.7]
  private func f(_ x: [Double]) -> [Double] { [x[0] * x[1], exp(x[2]) / 3, sin(x[3]) * x[0]] }
  private func right(_ r: [Double]) -> [Double] {
    [r[0] * x[1] + r[2] * sin(x[3]), r[0] * x[0], r[1] * exp(x[2]) / 3, r[2] * cos(x[3]) * x[0]]
  }

  @Test func rightGradientPasses() { expectGradient(of: f, at: x, analytic: right) }

  @Test(arguments: 0..<4) func oneElementWrongByAMillionthFails(element: Int) {
    let check = GradientCheck(of: f, at: x) { r in
      var d = right(r)
      d[element] *= 1 + 1e-6
      return d
    }
    #expect(check.ratio > 1)
  }

  @Test func swappedElementsFail() {
    #expect(GradientCheck(of: f, at: x) { r in Array(right(r).reversed()) }.ratio > 1e6)
  }

  @Test func missingElementsFail() {
    #expect(GradientCheck(of: f, at: x) { r in Array(right(r).dropLast()) }.ratio == .infinity)
  }

  @Test func notANumberFails() {
    #expect(GradientCheck(of: f, at: x) { r in right(r).map { _ in .nan } }.ratio == .infinity)
  }

  @Test func kinksAreSeen() {
    let check = GradientCheck(of: { $0.map { max(0, $0) } }, at: [1e-4, 1], analytic: { $0 })
    #expect(check.roughness > 1e-5)
  }
}

/// Tests of the references' own gradients.
@Suite struct ReferenceGradientTests {
  /// Values at least 0.1 away from 0 and from each other.
  private func spread(_ count: Int) -> [Double] {
    var draws = Draws(test: "spread")
    return draws.shuffled(count).map { (Double($0) - Double(count) / 2 + 0.5) * 0.2 }
  }

  @Test(arguments: [[0, 0, 0, 0, 0], [0, 1, 0, 1, 1]]) func batchNorm(groups: [Int]) {
    var draws = Draws(test: "batch norm")
    let (n, h, w, c) = (5, 2, 3, 2)
    let x = draws.normals(n * h * w * c)
    let layer = ReferenceBatchNorm(gamma: [0.7, -1.3], beta: [0.2, 0.5])
    func map(_ values: [Double]) -> Map { Map(n: n, h: h, w: w, c: c, values) }
    expectGradient(of: { layer.forward(map($0), groups, ReferenceBatchNorm.moments(map($0), groups)).values }, at: x) {
      layer.backward(map($0), map(x), groups, ReferenceBatchNorm.moments(map(x), groups)).dx.values
    }
    let moments = ReferenceBatchNorm.moments(map(x), groups)
    expectGradient(
      of: { ReferenceBatchNorm(gamma: $0, beta: layer.beta).forward(map(x), groups, moments).values }, at: layer.gamma
    ) { layer.backward(map($0), map(x), groups, moments).dGamma }
    expectGradient(
      of: { ReferenceBatchNorm(gamma: layer.gamma, beta: $0).forward(map(x), groups, moments).values }, at: layer.beta
    ) { layer.backward(map($0), map(x), groups, moments).dBeta }
    let frozen = ReferenceBatchNorm.Moments(mean: [[0.3, -0.2]], variance: [[1.5, 0.4]], count: [1])
    let one = [0, 0, 0, 0, 0]
    expectGradient(of: { layer.forward(map($0), one, frozen).values }, at: x) {
      layer.backward(map($0), map(x), one, frozen, frozen: true).dx.values
    }
  }

  @Test func linear() {
    var draws = Draws(test: "linear")
    let x = Map(n: 3, c: 4, draws.normals(12))
    let weight = draws.normals(20)
    let bias = draws.normals(5)
    func backward(_ r: [Double]) -> (dx: Map, dWeight: [Double], dBias: [Double]) {
      ReferenceLayers.linearBackward(Map(n: 3, c: 5, r), x, weight)
    }
    expectGradient(of: { ReferenceLayers.linear(Map(n: 3, c: 4, $0), weight, bias).values }, at: x.values) {
      backward($0).dx.values
    }
    expectGradient(of: { ReferenceLayers.linear(x, $0, bias).values }, at: weight) { backward($0).dWeight }
    expectGradient(of: { ReferenceLayers.linear(x, weight, $0).values }, at: bias) { backward($0).dBias }
  }

  @Test func reluAndResidual() {
    let x = Map(n: 4, c: 5, spread(20))
    let residual = Map(n: 4, c: 5, Array(repeating: 2, count: 20))
    let y = ReferenceLayers.reluOfSum(x, residual)
    expectGradient(of: { ReferenceLayers.reluOfSum(Map(n: 4, c: 5, $0), residual).values }, at: x.values) {
      ReferenceLayers.reluBackward(Map(n: 4, c: 5, $0), y).values
    }
    expectGradient(of: { ReferenceLayers.reluOfSum(x, Map(n: 4, c: 5, $0)).values }, at: residual.values) {
      ReferenceLayers.reluBackward(Map(n: 4, c: 5, $0), y).values
    }
  }

  @Test(arguments: [(5, 4), (1, 3)]) func pools(h: Int, w: Int) {
    func map(_ values: [Double]) -> Map { Map(n: 2, h: h, w: w, c: 2, values) }
    let x = map(spread(2 * h * w * 2))
    let (y, winner) = ReferenceLayers.maxPool(x)
    expectGradient(of: { ReferenceLayers.maxPool(map($0)).y.values }, at: x.values) {
      ReferenceLayers.maxPoolBackward(Map(n: 2, h: y.h, w: y.w, c: 2, $0), winner, like: x).values
    }
    expectGradient(of: { ReferenceLayers.averagePool(map($0)).values }, at: x.values) {
      ReferenceLayers.averagePoolBackward(Map(n: 2, c: 2, $0), like: x).values
    }
  }

  @Test(arguments: [1, 2]) func meanOfResNetD(stride: Int) {
    var draws = Draws(test: "mean")
    for (h, w) in [(5, 4), (1, 3), (2, 2)] {
      func map(_ values: [Double]) -> Map { Map(n: 2, h: h, w: w, c: 2, values) }
      let x = map(draws.normals(2 * h * w * 2))
      let y = ReferenceSelection.mean(x, stride: stride)
      expectGradient(of: { ReferenceSelection.mean(map($0), stride: stride).values }, at: x.values) {
        ReferenceSelection.meanBackward(Map(n: 2, h: y.h, w: y.w, c: 2, $0), stride: stride, like: x).values
      }
    }
  }

  @Test func selectiveKernels() {
    var draws = Draws(test: "selective kernels")
    let x = Map(n: 2, h: 3, w: 2, c: 6, draws.normals(72))
    let e = Map(n: 2, c: 6, draws.normals(12))
    expectGradient(of: { ReferenceSelection.pooled(Map(n: 2, h: 3, w: 2, c: 6, $0)).values }, at: x.values) {
      ReferenceSelection.pooledBackward(Map(n: 2, c: 3, $0), like: x).values
    }
    func backward(_ r: [Double]) -> (dx: Map, dE: Map) {
      ReferenceSelection.mixBackward(Map(n: 2, h: 3, w: 2, c: 3, r), x, e)
    }
    expectGradient(of: { ReferenceSelection.mix(Map(n: 2, h: 3, w: 2, c: 6, $0), e).values }, at: x.values) {
      backward($0).dx.values
    }
    expectGradient(of: { ReferenceSelection.mix(x, Map(n: 2, c: 6, $0)).values }, at: e.values) {
      backward($0).dE.values
    }
  }

  @Test func normalise() {
    var draws = Draws(test: "normalise")
    let z = Map(n: 3, c: 4, draws.normals(12))
    expectGradient(of: { ReferenceLayers.normalise(Map(n: 3, c: 4, $0)).values }, at: z.values) {
      ReferenceLayers.normaliseBackward(Map(n: 3, c: 4, $0), z).values
    }
  }

  @Test(arguments: [1, 2, 4]) func contrastiveLosses(batch: Int) {
    var draws = Draws(test: "losses")
    let z = Map(n: 2 * batch, c: 3, draws.normals(6 * batch))
    let queue = ReferenceLayers.normalise(Map(n: 5, c: 3, draws.normals(15)))
    let keys = ReferenceLayers.normalise(Map(n: 2 * batch, c: 3, draws.normals(6 * batch)))
    func map(_ values: [Double]) -> Map { Map(n: 2 * batch, c: 3, values) }
    if batch > 1 {
      expectGradient(of: { [ReferenceLosses.ntXent(map($0), temperature: 0.5)] }, at: z.values) { r in
        ReferenceLosses.ntXentGradient(z, temperature: 0.5).values.map { r[0] * $0 }
      }
    }
    expectGradient(of: { [ReferenceLosses.ntXent(map($0), queue: queue, temperature: 0.5)] }, at: z.values) { r in
      ReferenceLosses.ntXentGradient(z, queue: queue, temperature: 0.5).values.map { r[0] * $0 }
    }
    expectGradient(of: { [ReferenceLosses.infoNCE(map($0), keys: keys, queue: queue, temperature: 0.4)] }, at: z.values)
    { r in
      ReferenceLosses.infoNCEGradient(z, keys: keys, queue: queue, temperature: 0.4).values.map { r[0] * $0 }
    }
  }

  /// Gradients of an input and of all parameters through a residual block with every kind of layer.
  @Test func tape() {
    var draws = Draws(test: "tape")
    let start =
      draws.normals(2 * 5 * 5 * 2) + draws.normals(3 * 3 * 2 * 3, deviation: 0.4) + draws.normals(6)
      + draws.normals(3 * 4)
    func run(_ values: [Double]) -> (tape: ReferenceTape, leaves: [Node], y: Node) {
      let tape = ReferenceTape()
      let x = Node(Map(n: 2, h: 5, w: 5, c: 2, Array(values[0..<100])))
      let weight = Node(Map(n: 1, c: 54, Array(values[100..<154])))
      let gamma = Node(Map(n: 1, c: 3, values[154..<157].map { $0 + 1 }))
      let beta = Node(Map(n: 1, c: 3, Array(values[157..<160])))
      let head = Node(Map(n: 1, c: 12, Array(values[160..<172])))
      let z = tape.convolution(x, weight, kernel: 3, stride: 1)
      let n = tape.norm(z, gamma, beta, groups: [0, 0], frozen: nil)
      let y = tape.maxPool(tape.relu(n, residual: z))
      return (tape, [x, weight, gamma, beta, head], tape.linear(tape.averagePool(y), head, nil))
    }
    expectGradient(of: { run($0).y.value.values }, at: start) { r in
      let (tape, leaves, y) = run(start)
      #expect(tape.margin > 1e-3)
      tape.backward(y, r)
      return leaves.flatMap(\.gradient)
    }
  }
}
