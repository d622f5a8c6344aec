import Engine
import Testing

/// Three heads: on the features, on a feature map, and on the first layer of the first.
private let heads: [HeadPlan] = [
  HeadPlan(.head, [.init(11, bias: false, .scaleAndShift, relu: true), .init(7, bias: true)]),
  HeadPlan(
    "dense", from: .tap(.map("layer2")),
    [.init(6, bias: false, .scaleAndShift, relu: true, kernel: 3), .init(5, bias: false)]),
  HeadPlan("classifier", from: .tap(.head(layers: 1)), [.init(3, bias: true)], numbered: false),
]
private let narrow = ImageEncoder.Options.resnet(.init(.resnet18, width: 1 / 32, stem: .small, channels: 1))
private let deep = ImageEncoder.Options.resnet(.init(.resnet50, width: 1 / 32, stem: .imagenet, channels: 1))
/// Every kind of tap, in order of depth.
private let everyTap: [Network.Tap] = [
  .map("stem"), .map("layer1"), .map("layer2"), .map("layer3"), .map("layer4"), .features, .head(layers: 1), .head(),
  .head("dense", layers: 1), .head("dense"), .head("classifier"),
]

@Suite struct TapTests {
  /// The output of a tap does not depend on the other taps, nor on whether backward follows.
  @Test(arguments: [narrow, deep]) func outputsAreTheSameNumbers(options: ImageEncoder.Options) {
    let run = NetworkRun(Network(options, heads: heads), size: 33)
    defer { withExtendedLifetime(run.context) {} }
    let all = run.network.forward(run.x, to: everyTap, run.pass(.inference))
    let recorded = run.network.forward(run.x, to: everyTap, run.pass(.frozen))
    for tap in everyTap {
      let alone = run.network.forward(run.x, tap: tap, run.pass(.inference))
      #expect(alone.output.bits == all[tap].bits, "\(tap) alone")
      #expect(recorded[tap].bits == all[tap].bits, "\(tap) with a record")
      #expect(
        run.network.forward(run.x, tap: tap, run.pass(.frozen)).output.bits == all[tap].bits, "\(tap) recorded alone")
    }
    let side = options == deep ? [9, 9, 5, 3, 2] : [33, 33, 17, 9, 5]
    let maps = (0..<5).map { all[everyTap[$0]] }
    #expect(maps.map(\.h) == side && maps.map(\.c) == run.network.encoder.maps.map(\.channels))
    #expect(all[.head("dense")].shape == (5, side[2], side[2], 5) && all[.head("classifier")].shape == (5, 1, 1, 3))
  }

  /// Gradients from several taps, with heads on features, on a map and on another head, equal those of the reference
  /// network, whose backward is not written by hand.
  @Test(arguments: [Mode.train, .frozen]) func gradientsAtSeveralTapsEqualTheReference(mode: Mode) {
    let taps: [Network.Tap] = [.map("stem"), .map("layer2"), .features, .head(), .head("dense"), .head("classifier")]
    func reference(_ seed: UInt64, noise: Double) -> (gradients: [String: [Double]], margin: Double) {
      let run = NetworkRun(Network(narrow, heads: heads), seed: seed)
      defer { withExtendedLifetime(run.context) {} }
      let reference = ReferenceNetwork(
        run.trained.state, groups: [Int](repeating: 0, count: run.x.n), usesBatchStatistics: mode.usesBatchStatistics,
        noise: noise)
      let features = reference.encode(Map(run.x))
      let first = reference.project(features, relu: [true])
      let dense = reference.project(reference.maps["layer2"]!, relu: [true, false], head: "dense")
      let output = reference.tape.linear(
        first, reference.parameters["head.1.weight"]!, reference.parameters["head.1.bias"])
      let classes = reference.project(first, relu: [false], head: "classifier")
      let nodes = [reference.maps["stem"]!, reference.maps["layer2"]!, features, output, dense, classes]
      let gradients = zip(taps, nodes).map { tap, node in
        let map = node.value
        return (
          node, Map(run.context.arena.normal(n: map.n, h: map.h, w: map.w, c: map.c, "gradient at \(tap)")).values
        )
      }
      let margin = reference.tape.margin
      reference.tape.backward(gradients)
      return (reference.parameters.mapValues(\.gradient), margin)
    }
    let seed = (1...50).first { reference($0, noise: 0).margin > NetworkCase.margin }!
    let expected = reference(seed, noise: 0).gradients
    let noisy = reference(seed, noise: NetworkCase.noise).gradients
    let run = NetworkRun(Network(narrow, heads: heads), seed: seed)
    defer { withExtendedLifetime(run.context) {} }
    run.step(taps, mode)
    let found = run.gradients
    #expect(found.count == expected.count)
    for (name, values) in expected {
      let bound = 10 * rms(zip(noisy[name]!, values).map { $0 - $1 }) + 2 * roundoff * rms(values)
      let error = rms(zip(found[name]!, values).map { $0 - $1 })
      #expect(error <= bound && bound < 2e-2 * rms(values), "\(name): \(error) of \(rms(values)), bound \(bound)")
    }
  }

  /// Layers that no tap needs are not computed: their running statistics do not change, and they get no gradient.
  @Test func nothingBehindTheTapsIsComputed() {
    let run = NetworkRun(Network(narrow, heads: heads))
    defer { withExtendedLifetime(run.context) {} }
    let before = run.network.statistics.entries.map { run.trained.state.statistics.values($0.slice) }
    run.step([.map("layer2"), .head("dense", layers: 1)])
    let reached: [PartName] = ["encoder.conv1", "encoder.bn1", "encoder.layer1", "encoder.layer2", "dense.0"]
    for (entry, old) in zip(run.network.statistics.entries, before) {
      let isReached = reached.contains { $0.covers(entry.name) }
      #expect((run.trained.state.statistics.values(entry.slice) != old) == isReached, "\(entry.name)")
    }
    for (name, values) in run.gradients {
      #expect(values.contains { $0 != 0 } == reached.contains { $0.covers(name) }, "\(name)")
    }
  }

  /// The dry run's plan suffices for any number of threads, and the number of threads does not change a bit.
  @Test(arguments: [1, 3]) func dryRunPlansTaps(threads: Int) {
    let arena = Arena(reserving: 1 << 28)
    let run = NetworkRun(Network(deep, heads: heads), size: 33, threads: threads, arena: arena)
    let one = NetworkRun(Network(deep, heads: heads), size: 33)
    defer { withExtendedLifetime((run.context, one.context)) {} }
    func step(_ run: NetworkRun) {
      run.context.scratch { _ in run.step([.head("dense"), .head("classifier"), .map("layer3")]) }
    }
    run.context.dry { step(run) }
    let planned = arena.peak
    arena.seal()
    step(run)
    step(one)
    #expect(arena.peak == planned)
    #expect(run.trained.gradients.bits == one.trained.gradients.bits && run.trained.gradients.paddingIsZero)
  }

  /// A linear layer on a map equals a linear layer on its pixels as rows.
  @Test func linearLayersOfMapsAreOfTheirRows() {
    let context = Context(arena: Arena(reserving: 1 << 24))
    defer { withExtendedLifetime(context) {} }
    var layout = ParameterLayout()
    let layer = Linear(&layout, "fc", inputs: 9, outputs: 5, bias: true, weight: .normal(1))
    let state = NetworkState(layout, ParameterLayout())
    state.randomise()
    let results = [(6, 5, 7), (210, 1, 1)].map { n, h, w in
      let gradients = ParameterSlab(layout)
      let pass = Pass(context, state, .train, BatchGroups(images: n, in: context.arena), gradients: gradients)
      let x = context.arena.normal(n: n, h: h, w: w, c: 9, "x")
      let y = context.arena.poisoned(like: context.arena.tensor(n: n, h: h, w: w, c: 5))
      let dx = context.arena.poisoned(like: x)
      layer.forward(x, into: y, pass)
      layer.backward(context.arena.normal(n: n, h: h, w: w, c: 5, "dy"), x: x, dx: dx, pass)
      return [y.bits, dx.bits, gradients.bits]
    }
    #expect(results[0] == results[1])
  }

  @Test func unknownTapsStop() async {
    silenceBacktraces()
    await #expect(processExitsWith: .failure) {
      let run = NetworkRun(Network(narrow, heads: heads))
      _ = run.network.forward(run.x, tap: .map("layer5"), run.pass(.inference))
    }
  }
}
