import Engine
import Testing

private let narrow = ResNet.Options(.resnet18, width: 1 / 32, stem: .small, channels: 1)
/// SimCLR v2's blocks, with 3 to 24 channels per stream, squeezed to 32.
private let selective = ResNet.Options(
  .resnet50, width: 3 / 64, stem: .small, variant: .d, selectiveKernels: 0.0625, channels: 1)
/// Uses running statistics. With statistics of small batches, fifty layers amplify rounding so much that the bounds are
/// useless; fixtures compare that case with PyTorch.
private let chosen = NetworkCase(selective, size: 9, .init(kind: .global, batch: 7, views: 2), .frozen)
private let pair = Division(kind: .global, batch: 3, views: 2)

/// The network of all tests that divide the work over threads or ranks.
private let shared = NetworkCase(narrow, size: 14, .init(kind: .global, batch: 7, views: 2))
/// All ways to divide a batch, of seven images.
private let divided = [
  shared,
  NetworkCase(narrow, size: 14, .init(kind: .group(images: 2), batch: 7, views: 2)),
  NetworkCase(narrow, size: 14, .init(kind: .group(images: 3), batch: 6, views: 2)),
  NetworkCase(narrow, size: 14, .init(kind: .shuffle(images: 3), batch: 7, views: 2, order: [3, 0, 6, 1, 5, 2, 4])),
  NetworkCase(narrow, size: 14, .init(kind: .group(images: 3), batch: 7, views: 2), .frozen),
  chosen,
]

@Suite struct NetworkTests {
  @Test func bounds() {
    for test in divided {
      for (name, values) in test.expected.tensors {
        #expect(test.bounds[name]! < 2e-2 * rms(values), "\(test), \(name): the bound hides the values")
      }
    }
  }

  /// The basic block with a small stem, odd channel counts and one channel of input.
  @Test(arguments: [Mode.train, .frozen, .target, .inference]) func basicBlocks(mode: Mode) {
    let options = ResNet.Options(.resnet18, width: 3 / 64, stem: .small, channels: 1)
    let test = NetworkCase(options, size: 11, pair, mode)
    test.expect(test.run(), "\(test)")
  }

  /// The bottleneck with ImageNet's stem: 7×7, max-pool, projections with and without stride; odd sizes everywhere.
  @Test(arguments: [Mode.train, .frozen, .target, .inference]) func bottlenecks(mode: Mode) {
    let test = NetworkCase(ResNet.Options(.resnet50, width: 1 / 32), size: 43, pair, mode)
    test.expect(test.run(), "\(test)")
  }

  /// ResNet-D's stem, and its shortcuts on sides of 6, 3 and 2.
  @Test(arguments: [Mode.train, .frozen, .target, .inference]) func resNetD(mode: Mode) {
    let test = NetworkCase(ResNet.Options(.resnet18, width: 1 / 16, variant: .d), size: 23, pair, mode)
    test.expect(test.run(), "\(test)")
  }

  /// Selective kernels in ResNet-D, whose shortcuts take means on sides of 11, 6 and 3.
  @Test(arguments: [Mode.train, .frozen, .target, .inference]) func selectiveKernels(mode: Mode) {
    let test = NetworkCase(selective, size: 11, .init(kind: .global, batch: 5, views: 2), mode)
    test.expect(test.run(), "\(test)")
  }

  /// Selective kernels behind torchvision's own shortcuts.
  @Test func selectiveKernelsAlone() {
    var options = selective
    options.variant = .b
    let test = NetworkCase(options, size: 11, .init(kind: .global, batch: 5, views: 2), .frozen)
    test.expect(test.run(), "\(test)")
  }

  @Test func withoutHead() {
    let test = NetworkCase(narrow, head: [], size: 14, pair)
    test.expect(test.run(), "\(test)")
  }

  @Test func headOfEveryKind() {
    let head: [Head.Layer] = [
      .init(17, bias: true, relu: true), .init(19, bias: false, .scaleAndShift, relu: true),
      .init(9, bias: false, .scale),
    ]
    let test = NetworkCase(narrow, head: head, size: 14, pair)
    test.expect(test.run(), "\(test)")
  }

  @Test(arguments: [2, 3]) func threadsDoNotChangeABit(threads: Int) {
    for test in divided {
      let one = test.run()
      let other = test.run(threads: threads)
      #expect(one.tensors == other.tensors && one.loss == other.loss, "\(test) on \(threads) threads")
    }
  }

  @Test func tapsAreTheSameNumbers() {
    let network = Network(narrow, head: [.init(11, bias: false, .scaleAndShift, relu: true), .init(7, bias: true)])
    let context = Context(arena: Arena(reserving: 1 << 28))
    defer { withExtendedLifetime(context) {} }
    let state = network.makeState()
    state.randomise()
    let x = context.arena.normal(n: 3, h: 14, w: 14, c: 1, "x")
    let groups = BatchGroups(images: 3, in: context.arena)
    func output(_ tap: Network.Tap) -> Tensor {
      network.forward(x, tap: tap, Pass(context, state, .inference, groups)).output
    }
    #expect(output(.features).shape == (3, 1, 1, 16) && output(.head(layers: 1)).shape == (3, 1, 1, 11))
    #expect(output(.head(layers: 0)).bits == output(.features).bits)
    #expect(output(.head(layers: 2)).bits == output(.embedding).bits)
    #expect(output(.embedding).shape == (3, 1, 1, 7))
  }

  /// Backward from a tap inside the head gives the encoder's gradients of a network that ends there.
  @Test(arguments: [0, 1]) func backwardFromATap(layers: Int) {
    let head: [Head.Layer] = [.init(11, bias: false, .scaleAndShift, relu: true), .init(7, bias: true)]
    let results = [head, Array(head.prefix(layers))].map { head in
      let network = Network(narrow, head: head)
      let context = Context(arena: Arena(reserving: 1 << 28))
      defer { withExtendedLifetime(context) {} }
      let trained = Trained("encoder", network, context)
      trained.state.randomise()
      let x = context.arena.normal(n: 5, h: 14, w: 14, c: 1, "x")
      let groups = BatchGroups(images: 5, in: context.arena)
      let pass = trained.pass(context, groups)
      let tape = network.forward(x, tap: .head(layers: layers), pass)
      network.backward(context.arena.normal(n: 5, c: tape.output.c, "d"), tape, pass)
      return network.parameters.entries.reduce(into: [String: [Double]]()) {
        $0[$1.name] = trained.gradients.values($1.slice)
      }
    }
    let differing = results[1].filter { results[0][$0.key] != $0.value }.keys.sorted()
    #expect(differing == [])
    for (name, values) in results[0] where results[1][name] == nil { #expect(values.allSatisfy { $0 == 0 }, "\(name)") }
  }

  /// Gradients accumulate: two backward passes give twice the gradient of one.
  @Test func gradientsAccumulate() {
    let network = Network(narrow, head: [.init(7, bias: true)])
    let context = Context(arena: Arena(reserving: 1 << 28))
    defer { withExtendedLifetime(context) {} }
    let trained = Trained("encoder", network, context)
    trained.state.randomise()
    let x = context.arena.normal(n: 4, h: 14, w: 14, c: 1, "x")
    let groups = BatchGroups(images: 4, in: context.arena)
    var once: [Float] = []
    for _ in 0..<2 {
      let pass = trained.pass(context, groups, part: 0, of: 2)
      let tape = network.forward(x, pass)
      network.backward(context.arena.normal(n: 4, c: 7, "d"), tape, pass)
      if once.isEmpty { once = Array(trained.gradients.buffer) }
    }
    let twice = trained.gradients.buffer.map(Double.init)
    // Not exact, because the running means, which shift the sums, changed in between.
    #expect(relativeError(twice, once.map { 2 * Double($0) }) < 1e-5)
    #expect(trained.gradients.paddingIsZero)
  }
}

@Suite struct NetworkRanksTests {
  @Test(arguments: divided, [1, 2, 3, 4]) func ranksEqualReference(test: NetworkCase, ranks: Int) {
    let results = test.run(ranks: ranks)
    test.expect(NetworkCase.merged(results), "\(test) on \(ranks) ranks")
    for result in results {
      #expect(
        result.gradients == results[0].gradients && result.statistics == results[0].statistics, "replicas are equal")
    }
  }

  /// Controls: the error is at least ten times the bound in every convolution's gradient.
  @Test(arguments: [2, 3, 4]) func localStatisticsMissTheBound(ranks: Int) {
    expectMiss(shared.run(ranks: ranks, isLocal: true))
  }

  @Test(arguments: [2, 3, 4]) func unsummedGatherMissesTheBound(ranks: Int) {
    expectMiss(shared.run(ranks: ranks, silent: .gatheredGradient))
  }

  @Test(arguments: [2, 3, 4]) func unsummedGradientsMissTheBound(ranks: Int) {
    expectMiss(shared.run(ranks: ranks, silent: "gradients"))
  }

  private func expectMiss(_ results: [NetworkResult]) {
    let ratios = shared.ratios(NetworkCase.merged(results)).filter {
      $0.key.hasPrefix("gradient") && $0.key.hasSuffix(".conv1.weight")
    }
    #expect(ratios.count == 9 && ratios.values.allSatisfy { $0 > 10 }, "\(ratios)")
  }
}

@Suite struct WatchTests {
  /// - Returns: the layer that the watch reported, with one weight poisoned.
  private func found(poisoned name: String?, forward: Bool = true) -> String? {
    let network = Network(narrow, head: [.init(11, bias: false, .scaleAndShift, relu: true), .init(7, bias: true)])
    let context = Context(arena: Arena(reserving: 1 << 28))
    defer { withExtendedLifetime(context) {} }
    let trained = Trained("encoder", network, context)
    trained.state.randomise()
    if let name {
      trained.state.parameters[network.parameters.entry(name)!.slice][3 % network.parameters.entry(name)!.slice.count] =
        .nan
    }
    let x = context.arena.normal(n: 3, h: 14, w: 14, c: 1, "x")
    let pass = trained.pass(context, BatchGroups(images: 3, in: context.arena))
    context.watch = Watch()
    let tape = network.forward(x, pass)
    let d = context.arena.normal(n: 3, c: 7, "d")
    if !forward {
      d.buffer[2] = .infinity
      network.backward(d, tape, pass)
    }
    return context.watch!.found?.layer
  }

  @Test func healthyNetworkHasNone() { #expect(found(poisoned: nil) == nil) }

  @Test(arguments: [
    "encoder.conv1.weight", "encoder.layer2.0.conv2.weight", "encoder.layer2.0.downsample.0.weight",
    "encoder.layer4.1.conv1.weight",
  ])
  func namesTheConvolution(name: String) { #expect(found(poisoned: name) == name) }

  @Test(arguments: [
    ("encoder.layer3.1.bn1.weight", "encoder.layer3.1.bn1"), ("head.0.bn.bias", "head.0.bn"),
    ("head.1.weight", "head.1"),
  ])
  func namesTheLayer(name: String, layer: String) { #expect(found(poisoned: name) == layer) }

  @Test func namesTheGradient() { #expect(found(poisoned: nil, forward: false)?.hasSuffix("(gradient)") == true) }
}
