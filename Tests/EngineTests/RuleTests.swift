import Engine
import Ranks
import TestSupport
import Testing

private let encoder = ImageEncoder.Options.resnet(.init(.resnet18, width: 1 / 32, stem: .small, channels: 1))
private let heads = [
  HeadPlan(.head, [.init(11, bias: false, .scaleAndShift, relu: true), .init(7, bias: true)]),
  HeadPlan("dense", from: .tap(.map("layer2")), [.init(6, bias: false, .scaleAndShift, relu: true, kernel: 3)]),
]
private let taps: [Network.Tap] = [.head(), .head("dense")]
/// All kinds except the running statistics.
private let learned: Set<ParameterKind> = [.weight, .bias, .scale, .shift]

/// Rules that freeze parameters: all, the first, some in the middle, a kind, a head, all but a head.
private let frozen: [[Rule]] = [
  [Rule(kinds: learned, trains: false)],
  [Rule(.encoder, kinds: learned, trains: false)],
  [Rule("encoder.conv1", trains: false), Rule("encoder.bn1", kinds: learned, trains: false)],
  [Rule(kinds: learned, trains: false), Rule("encoder.layer2", kinds: learned, trains: true)],
  [Rule("encoder.layer3", kinds: learned, trains: false)],
  [Rule(.encoder, kinds: [.weight], trains: false)],
  [Rule(.encoder, kinds: [.scale, .shift], trains: false), Rule("head.1", kinds: [.bias], trains: false)],
  [Rule(.head, kinds: learned, trains: false)],
  [Rule("dense", kinds: learned, trains: false), Rule("head.0", kinds: learned, trains: false)],
  [Rule(kinds: learned, trains: false), Rule("head.1", kinds: learned, trains: true)],
]

@Suite struct RuleTests {
  /// Gradients of trained parameters have the same bits as in a network without frozen ones; the others are not
  /// computed.
  @Test(arguments: frozen) func gradientsOfTheRestAreTheSame(rules: [Rule]) {
    let whole = NetworkRun(Network(encoder, heads: heads))
    let run = NetworkRun(Network(encoder, heads: heads, rules: rules))
    defer { withExtendedLifetime((whole.context, run.context)) {} }
    whole.step(taps)
    run.step(taps)
    let expected = whole.gradients
    let found = run.gradients
    for entry in run.network.parameters.entries {
      let values = found[entry.name]!
      if entry.trains {
        #expect(values == expected[entry.name]! && values.contains { $0 != 0 }, "\(entry.name)")
      } else {
        #expect(values.allSatisfy { $0 == 0 }, "\(entry.name) does not train")
      }
    }
    #expect(run.trained.state.statistics.bits == whole.trained.state.statistics.bits)
    #expect(run.network.parameters.entries.contains { !$0.trains })
  }

  /// Frozen parameters keep their bits with every optimizer; the others change.
  @Test(arguments: frozen, [SGD(nesterov: true), LARS(exclude: []), Adam()] as [any Optimizer])
  func frozenParametersStay(rules: [Rule], optimizer: any Optimizer) {
    let run = NetworkRun(Network(encoder, heads: heads, rules: rules), optimizer)
    defer { withExtendedLifetime(run.context) {} }
    let before = run.network.parameters.entries.map { run.trained.state.parameters.values($0.slice) }
    for step in 0..<3 {
      run.trained.gradients.zero()
      run.step(taps)
      run.trained.update(optimizer, step: step, rate: 0.1, run.context)
    }
    for (entry, old) in zip(run.network.parameters.entries, before) {
      #expect((run.trained.state.parameters.values(entry.slice) == old) == !entry.trains, "\(entry.name)")
    }
    #expect(run.trained.state.parameters.paddingIsZero)
  }

  /// No weight gradient of frozen weights is computed, and no data gradient below the lowest trained part.
  @Test func workIsLeftOut() {
    func layers(_ rules: [Rule]) -> [String] {
      let run = NetworkRun(Network(encoder, heads: heads, rules: rules))
      defer { withExtendedLifetime(run.context) {} }
      run.context.profile = Profile()
      run.step(taps)
      return run.context.profile!.layers.map(\.name)
    }
    func count(_ layers: [String], _ what: String) -> Int { layers.count { $0.hasSuffix(what) } }
    let whole = layers([])
    #expect(count(whole, "weight gradient") > 5 && count(whole, "data gradient") > 5)
    let weights = layers([Rule(.encoder, kinds: [.weight], trains: false)])
    #expect(count(weights, "weight gradient") == 1 && count(weights, "data gradient") == count(whole, "data gradient"))
    let onlyHeads = layers([Rule(.encoder, kinds: learned, trains: false)])
    #expect(count(onlyHeads, "weight gradient") == 1 && count(onlyHeads, "data gradient") == 0)
    #expect(count(onlyHeads, "normalisation backward") == 2)
    // Layer4 has convolutions of three shapes; only the one that begins no block needs a data gradient.
    let top = layers([Rule(kinds: learned, trains: false), Rule("encoder.layer4", kinds: learned, trains: true)])
    #expect(count(top, "weight gradient") == 3 && count(top, "data gradient") == 1, "\(top)")
  }

  /// An encoder that is frozen as a whole keeps only its outputs on the arena.
  @Test func frozenEncodersKeepNothing() {
    func height(_ rules: [Rule]) -> Int {
      let run = NetworkRun(Network(encoder, heads: heads, rules: rules))
      defer { withExtendedLifetime(run.context) {} }
      run.context.dry { run.step(taps) }
      return run.context.arena.peak
    }
    let frozen = height([Rule(.encoder, kinds: learned, trains: false)])
    // Workspace, the heads and the outputs stay.
    #expect(5 * frozen < 4 * height([]), "\(frozen) of \(height([]))")
  }

  /// Frozen running statistics are used for normalisation, as in evaluation, and do not change in any mode.
  @Test(arguments: [Mode.train, .target]) func frozenStatisticsAreUsed(mode: Mode) {
    let rules = [Rule(.encoder, kinds: [.mean, .variance], trains: false)]
    let run = NetworkRun(Network(encoder, heads: heads, rules: rules))
    let whole = NetworkRun(Network(encoder, heads: heads))
    defer { withExtendedLifetime((run.context, whole.context)) {} }
    let before = run.network.statistics.entries.map { run.trained.state.statistics.values($0.slice) }
    let features = run.network.forward(run.x, to: [.features, .head()], run.pass(mode)).features
    #expect(features.bits == whole.network.forward(whole.x, tap: .features, whole.pass(.inference)).output.bits)
    for (entry, old) in zip(run.network.statistics.entries, before) {
      let isHead = entry.name == "head.0.bn.running_mean" || entry.name == "head.0.bn.running_var"
      #expect((run.trained.state.statistics.values(entry.slice) != old) == isHead, "\(entry.name)")
    }
  }

  /// Gradients through frozen statistics equal those of the mode in which all normalisations use running statistics.
  @Test func gradientsThroughFrozenStatistics() {
    let rules = [Rule(kinds: [.mean, .variance], trains: false)]
    let run = NetworkRun(Network(encoder, heads: heads, rules: rules))
    let whole = NetworkRun(Network(encoder, heads: heads))
    defer { withExtendedLifetime((run.context, whole.context)) {} }
    run.step(taps, .train)
    whole.step(taps, .frozen)
    #expect(run.trained.gradients.bits == whole.trained.gradients.bits)
    #expect(run.trained.state.statistics.bits == whole.trained.state.statistics.bits)
  }

  /// A factor on a part's rate scales every step by it, and a part may have its own decay.
  @Test func ratesAndDecaysArePartsOwn() {
    func moved(_ rules: [Rule], _ optimizer: SGD, gradients: Bool) -> [String: [Double]] {
      let run = NetworkRun(Network(encoder, heads: heads, rules: rules))
      defer { withExtendedLifetime(run.context) {} }
      let before = run.network.parameters.entries.map { run.trained.state.parameters.values($0.slice) }
      if gradients { run.step(taps) }
      run.trained.update(optimizer, step: 0, rate: 0.5, run.context)
      return zip(run.network.parameters.entries, before).reduce(into: [:]) { result, pair in
        let after = run.trained.state.parameters.values(pair.0.slice)
        result[pair.0.name] = zip(after, pair.1).map { $0 - $1 }
      }
    }
    let plain = SGD(momentum: 0, decay: 0)
    let decay = SGD(momentum: 0, decay: 0.5)
    let slow = moved([Rule(.head, rate: 0.25)], plain, gradients: true)
    let undecayed = moved([Rule(.encoder, kinds: [.weight], decay: 0)], decay, gradients: false)
    let all = moved([], plain, gradients: true)
    let decayed = moved([], decay, gradients: false)
    for (name, values) in all {
      let factor = PartName.head.covers(name) ? 0.25 : 1
      let scaled = values.map { factor * $0 }
      // The compared values are differences of rounded values.
      #expect(zip(slow[name]!, scaled).allSatisfy { abs($0 - $1) < 1e-5 }, "\(name)")
      let isUndecayed = PartName.encoder.covers(name) && (name.contains("conv") || name.contains("downsample.0"))
      #expect(undecayed[name]! == (isUndecayed ? values.map { _ in 0 } : decayed[name]!), "\(name)")
    }
  }

  /// The last rule that applies to a parameter wins.
  @Test func laterRulesOverrule() {
    let layout = Network(
      encoder, heads: heads,
      rules: [
        Rule(.encoder, trains: false, rate: 3), Rule("encoder.layer4", trains: true), Rule(kinds: [.scale], rate: 2),
      ]
    ).parameters
    func entry(_ name: String) -> ParameterLayout.Entry { layout.entry(name)! }
    #expect(!entry("encoder.conv1.weight").trains && entry("encoder.layer4.0.conv1.weight").trains)
    #expect(
      entry("encoder.layer4.0.conv1.weight").rateFactor == 3 && entry("encoder.layer4.0.bn1.weight").rateFactor == 2)
    #expect(entry("head.0.weight").trains && entry("head.0.weight").rateFactor == 1)
  }

  /// A rule may apply to another network of a method.
  @Test func aNetworkKnowsWhichRulesAreForIt() {
    let network = Network(encoder, heads: heads, rules: [Rule("hed", trains: false)])
    #expect(network.parameters.entries.allSatisfy { $0.trains })
    #expect(!network.has(Rule("hed")) && !network.has(Rule("encoder.conv1", kinds: [.mean])))
    #expect(network.has(Rule(kinds: [.mean])) && network.has(Rule("dense")) && network.has(Rule("head.0")))
  }

  /// Exactly the gradients of trained parameters are reduced, each once.
  @Test(arguments: frozen) func onlyWhatTrainsIsSent(rules: [Rule]) {
    let layout = Network(encoder, heads: heads, rules: rules).parameters
    let recorder = SumRecorder()
    let gradients = ParameterSlab(layout)
    let context = Context(communicator: recorder, arena: Arena(reserving: 1 << 20))
    let reducer = GradientReducer(context, gradients, bucket: 100)
    for step in 1...2 {
      reducer.finish()
      var sent = [Int](repeating: 0, count: layout.count)
      for sum in recorder.sums {
        let first = sum.baseAddress! - gradients.data
        for i in first..<first + sum.count { sent[i] += 1 }
      }
      for entry in layout.entries {
        let counts = sent[entry.slice.offset..<entry.slice.offset + entry.slice.count]
        #expect(counts.allSatisfy { $0 == (entry.trains ? step : 0) }, "\(entry.name)")
      }
    }
    let most = layout.entries.filter(\.trains).reduce(0) { $0 + ($1.slice.count + 15) / 16 * 16 }
    #expect(recorder.sums.reduce(0) { $0 + $1.count } == 2 * most)
  }
}
