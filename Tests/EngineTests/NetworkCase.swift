import Engine
import Randomness
import Ranks
import TestSupport
import Testing

/// The results of a network's step.
struct NetworkResult: Sendable {
  /// (N, D), in the order of the whole batch.
  var features: [Double] = [], output: [Double] = []
  var loss = 0.0
  var gradients: [String: [Double]] = [:], statistics: [String: [Double]] = [:]

  /// All tensors by name; gradients and statistics by the parameter's name.
  var tensors: [String: [Double]] {
    var all = gradients.reduce(into: ["features": features, "output": output]) {
      $0["gradient of " + $1.key] = $1.value
    }
    for (name, values) in statistics { all[name] = values }
    return all
  }
}

/// A small network, a batch of two views, NT-Xent, and the reference of the whole step.
///
/// Bounds: the reference is run again with normal noise of 16 roundoffs on every value and gradient, in units of its
/// map's rms, because a dot product of some 300 terms has an error of √300 roundoffs. The bound of a tensor is ten
/// times the resulting rms change, plus two roundoffs, so it includes how the network amplifies errors. Seeds are
/// chosen so that no ReLU or max-pool is near its kink, where rounding would change the gradient by more than a
/// rounding.
final class NetworkCase: Sendable, CustomStringConvertible {
  let options: ResNet.Options, head: [Head.Layer], size: Int, division: Division, mode: Mode
  let seed: UInt64
  let expected: NetworkResult, bounds: [String: Double]
  static let noise = 16 * roundoff, margin = 1e-5, temperature = 0.5
  var description: String {
    "\(options.depth)-\(options.variant), \(options.stem) stem, selective kernels \(options.selectiveKernels), "
      + "\(division), \(mode)"
  }

  init(
    _ options: ResNet.Options,
    head: [Head.Layer] = [.init(11, bias: false, .scaleAndShift, relu: true), .init(7, bias: true)], size: Int,
    _ division: Division, _ mode: Mode = .train
  ) {
    self.options = options
    self.head = head
    self.size = size
    self.division = division
    self.mode = mode
    func reference(_ seed: UInt64, noise: Double = 0, onlyForward: Bool = false) -> (NetworkResult, margin: Double) {
      Self.reference(options, head, size, division, mode, seed, noise, onlyForward)
    }
    seed = (1...200).first { reference($0, onlyForward: true).margin > Self.margin } ?? 0
    precondition(seed > 0, "every seed is near a kink")
    let expected = reference(seed).0
    let noisy = reference(seed, noise: Self.noise).0.tensors
    self.expected = expected
    bounds = expected.tensors.reduce(into: [:]) { bounds, tensor in
      let error = rms(zip(tensor.value, noisy[tensor.key]!).map { $0 - $1 })
      bounds[tensor.key] = 10 * error + 2 * roundoff * rms(tensor.value)
    }
  }

  private static func makeState(_ options: ResNet.Options, _ head: [Head.Layer], _ seed: UInt64) -> (
    Network, NetworkState
  ) {
    let network = Network(options, head: head)
    let state = network.makeState()
    state.randomise(seed: seed)
    return (network, state)
  }

  /// All first views, then all second views of the same images.
  private static func images(_ options: ResNet.Options, _ size: Int, _ division: Division, _ seed: UInt64) -> Map {
    var draws = Draws(test: "images", seed: seed)
    let count = division.batch * size * size * options.channels
    let first = draws.normals(count)
    let views = (0..<division.views).flatMap { $0 == 0 ? first : first.map { $0 + 0.5 * draws.normal() } }
    return Map(
      n: division.batch * division.views, h: size, w: size, c: options.channels, views.map { Double(Float($0)) })
  }

  private static func reference(
    _ options: ResNet.Options, _ head: [Head.Layer], _ size: Int, _ division: Division, _ mode: Mode, _ seed: UInt64,
    _ noise: Double, _ onlyForward: Bool
  ) -> (NetworkResult, margin: Double) {
    let (_, state) = makeState(options, head, seed)
    let network = ReferenceNetwork(
      state, groups: division.groups, usesBatchStatistics: mode.usesBatchStatistics, noise: noise)
    let features = network.encode(images(options, size, division, seed))
    let output = network.project(features, relu: head.map(\.relu))
    var result = NetworkResult()
    result.features = features.value.values
    result.output = output.value.values
    result.statistics = network.statistics
    let margin = network.tape.margin
    if mode.records && !onlyForward {
      result.loss = ReferenceLosses.ntXent(output.value, temperature: temperature)
      network.tape.backward(output, ReferenceLosses.ntXentGradient(output.value, temperature: temperature).values)
      result.gradients = network.parameters.mapValues(\.gradient)
    }
    return (result, margin)
  }

  /// The engine's step on one rank: its rows of the outputs, and the gradients summed over ranks.
  /// - isLocal: for controls: uses batch statistics of this rank's images alone.
  func run(threads: Int = 1, isLocal: Bool = false, _ communicator: any Communicator = SingleProcess()) -> NetworkResult
  {
    let (network, state) = Self.makeState(options, head, seed)
    let map = Self.images(options, size, division, seed)
    let context = Context(threads: threads, communicator: communicator, arena: Arena(reserving: 1 << 30))
    let arena = context.arena
    defer { withExtendedLifetime(context) {} }
    let trained = Trained("encoder", network, context)
    trained.state.copy(state)
    let batch = division.batch
    let ranks = communicator.size
    let local = positions(of: batch, rank: communicator.rank, ranks: ranks)
    let rows = (0..<division.views).flatMap { view in local.map { view * batch + $0 } }
    let groups =
      isLocal
      ? BatchGroups(.global, batch: max(1, rows.count), positions: 0..<rows.count, ranks: 1, in: arena)
      : BatchGroups(
        division.kind, batch: batch, positions: local, views: division.views, order: division.order, ranks: ranks,
        in: arena)
    let x = arena.tensor(n: rows.count, h: size, w: size, c: options.channels)
    for (i, value) in rows.flatMap(map.row).enumerated() { x.buffer[i] = Float(value) }
    // Buckets are so small that gradients are sent while backward still runs.
    let reducer = GradientReducer(context, trained.gradients, bucket: 64)
    let pass = Pass(
      context, trained.state, mode, groups, gradients: trained.gradients, reducer: mode.records ? reducer : nil)
    let tape = network.forward(x, pass)
    let d = arena.copy(tape.output)
    var result = NetworkResult()
    func scattered(_ tensor: Tensor) -> [Double] {
      var whole = [Double](repeating: 0, count: map.n * tensor.c)
      for (i, row) in rows.enumerated() {
        for j in 0..<tensor.c { whole[row * tensor.c + j] = Double(tensor.data[i * tensor.c + j]) }
      }
      return whole
    }
    result.features = scattered(tape.features)
    result.output = scattered(tape.output)
    if mode.records {
      let shares = (0..<ranks).map { positions(of: batch, rank: $0, ranks: ranks).count }
      let statistics = NTXent(temperature: Float(Self.temperature)).apply(d, shares: shares, context)
      result.loss = statistics.loss / statistics.rows
      network.backward(d, tape, pass)
      reducer.finish()
      for entry in network.parameters.entries { result.gradients[entry.name] = trained.gradients.values(entry.slice) }
    }
    for entry in network.statistics.entries {
      result.statistics[entry.name] = trained.state.statistics.values(entry.slice)
    }
    return result
  }

  func run(ranks: Int, isLocal: Bool = false, silent: CollectivePurpose? = nil) -> [NetworkResult] {
    Ranks.run(ranks, silent: silent) { self.run(isLocal: isLocal, $0) }
  }

  /// The outputs of all ranks concatenated, and the first rank's replicated results.
  static func merged(_ results: [NetworkResult]) -> NetworkResult {
    var whole = results[0]
    for result in results.dropFirst() {
      whole.features = zip(whole.features, result.features).map(+)
      whole.output = zip(whole.output, result.output).map(+)
    }
    return whole
  }

  /// The ratio of rms error to bound of every tensor.
  func ratios(_ result: NetworkResult) -> [String: Double] {
    let found = result.tensors
    return expected.tensors.reduce(into: [:]) { ratios, tensor in
      guard let values = found[tensor.key], values.count == tensor.value.count else {
        ratios[tensor.key] = .infinity
        return
      }
      let error = rms(zip(values, tensor.value).map { $0 - $1 })
      ratios[tensor.key] = error.isNaN ? .infinity : error == 0 ? 0 : error / bounds[tensor.key]!
    }
  }

  func expect(_ result: NetworkResult, _ what: String) {
    for (name, ratio) in ratios(result) { #expect(ratio <= 1, "\(what), \(name): \(ratio) times the bound") }
    #expect(Set(result.tensors.keys) == Set(expected.tensors.keys), "\(what)")
    #expect(
      abs(result.loss - expected.loss) < 1e-4 * (1 + expected.loss), "\(what): loss \(result.loss) for \(expected.loss)"
    )
  }
}
