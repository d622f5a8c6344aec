import Engine
import Ranks
import Testing

/// The engine's results for a `NormCase`, or for one rank's part of it.
struct NormRun: Sendable {
  /// `again` is y, recomputed from the tape.
  var y: [Float], again: [Float], dx: [Float], maskedDy: [Float], dGamma: [Float], dBeta: [Float], mean: [Float],
    variance: [Float]
  /// Indices of this rank's images in the whole batch.
  var images: [Int]

  /// - Parameters:
  ///   - mode: `train` and `frozen` run backward too.
  ///   - inPlace: whether y overwrites x.
  ///   - isLocal: for controls: uses statistics of this rank's images alone.
  init(
    _ test: NormCase, _ mode: Mode, threads: Int = 1, inPlace: Bool = false, isLocal: Bool = false,
    _ communicator: any Communicator = SingleProcess()
  ) {
    let context = Context(threads: threads, communicator: communicator, arena: Arena(reserving: 1 << 28))
    let arena = context.arena
    defer { withExtendedLifetime(context) {} }  // tensors do not own the arena
    var parameters = ParameterLayout()
    var statistics = ParameterLayout()
    let layer = BatchNorm(&parameters, &statistics, "bn", channels: test.c)
    let state = NetworkState(parameters, statistics)
    let gradients = ParameterSlab(parameters)
    func set(_ slab: ParameterSlab, _ slice: Slice, _ values: [Double]) {
      for (i, value) in values.enumerated() { slab[slice][i] = Float(value) }
    }
    set(state.parameters, layer.gamma!, test.layer.gamma)
    set(state.parameters, layer.beta!, test.layer.beta)
    set(state.statistics, layer.mean, test.running.mean)
    set(state.statistics, layer.variance, test.running.variance)
    let division = test.division
    let ranks = communicator.size
    let local = positions(of: division.batch, rank: communicator.rank, ranks: ranks)
    let images = (0..<division.views).flatMap { view in local.map { view * division.batch + $0 } }
    func tensor(_ map: Map) -> Tensor {
      let result = arena.tensor(n: images.count, h: map.h, w: map.w, c: map.c)
      for (i, value) in images.flatMap(map.row).enumerated() { result.buffer[i] = Float(value) }
      return result
    }
    let x = tensor(test.x)
    let residual = test.residual.map(tensor)
    let dy = tensor(test.dy)
    let groups =
      isLocal
      ? BatchGroups(images: images.count, in: arena)
      : BatchGroups(
        division.kind, batch: division.batch, positions: local, views: division.views, order: division.order,
        ranks: ranks, in: arena)
    let pass = Pass(context, state, mode, groups, gradients: gradients)
    let y = inPlace ? x : arena.poisoned(like: x)
    let tape = layer.forward(x, residual: residual, relu: test.relu, into: y, pass)
    self.images = images
    self.y = Array(y.buffer)
    again = []
    if mode.records {
      let copy = arena.poisoned(like: x)
      layer.recompute(x, residual: residual, relu: test.relu, into: copy, tape, pass)
      again = Array(copy.buffer)
      layer.backward(dy, y: test.keepsOutput ? y : nil, relu: test.relu, x: x, tape, pass)
    }
    dx = Array(x.buffer)
    maskedDy = Array(dy.buffer)
    func get(_ slab: ParameterSlab, _ slice: Slice) -> [Float] {
      Array(UnsafeBufferPointer(start: slab[slice], count: test.c))
    }
    dGamma = get(gradients, layer.gamma!)
    dBeta = get(gradients, layer.beta!)
    mean = get(state.statistics, layer.mean)
    variance = get(state.statistics, layer.variance)
  }

  /// Concatenates the parts of all ranks, and sums the gradients of γ and β.
  static func merged(_ runs: [NormRun]) -> NormRun {
    let width = runs.first { !$0.images.isEmpty }.map { $0.y.count / $0.images.count }!
    func rows(_ part: KeyPath<NormRun, [Float]>) -> [Float] {
      var whole = [Float](repeating: .nan, count: runs.reduce(0) { $0 + $1[keyPath: part].count })
      for run in runs {
        for (i, image) in run.images.enumerated() {
          for j in 0..<width { whole[image * width + j] = run[keyPath: part][i * width + j] }
        }
      }
      return whole
    }
    func sum(_ part: KeyPath<NormRun, [Float]>) -> [Float] {
      runs.dropFirst().reduce(runs[0][keyPath: part]) { zip($0, $1[keyPath: part]).map(+) }
    }
    var result = runs[0]
    result.y = rows(\.y)
    result.again = rows(\.again)
    result.dx = rows(\.dx)
    result.maskedDy = rows(\.maskedDy)
    result.dGamma = sum(\.dGamma)
    result.dBeta = sum(\.dBeta)
    result.images = runs.flatMap(\.images).sorted()
    return result
  }
}

extension NormCase {
  /// Whether backward gets the output; otherwise it recomputes the ReLU's mask.
  var keepsOutput: Bool { relu && residual != nil }

  /// Expects a run to equal the reference within the bounds.
  func expect(_ run: NormRun, _ mode: Mode, _ what: String) {
    let forward = expectedForward()
    let running = expectedRunning()
    expectClose(run.y, forward.y, within: forward.bound, what + " y")
    expectClose(run.mean, running.mean, within: running.meanBound, what + " running mean")
    expectClose(run.variance, running.variance, within: running.varianceBound, what + " running variance")
    guard mode.records else { return }
    let gradients = expectedBackward(mask: run.y.map { $0 > 0 })
    expectClose(run.dx, gradients.dx, within: gradients.dxBound, what + " dx")
    expectClose(run.dGamma, gradients.dGamma, within: gradients.dGammaBound, what + " dγ")
    expectClose(run.dBeta, gradients.dBeta, within: gradients.dBetaBound, what + " dβ")
    let masked = dy.values.indices.map { !keepsOutput || run.y[$0] > 0 ? Float(dy.values[$0]) : 0 }
    #expect(run.maskedDy == masked, "\(what): dy is masked for the residual, and left alone where there is none")
    if !run.again.isEmpty { #expect(run.again == run.y, "\(what): made again to the bit") }
  }
}
