import Engine
import Testing

/// Encoders of every kind of block, stem and shortcut, with channel counts that fill registers and that do not.
private let encoders: [(options: ResNet.Options, size: Int)] = [
  (.init(.resnet18, width: 1 / 4, stem: .small), 17),
  (.init(.resnet34, width: 3 / 64), 45),
  (.init(.resnet50, width: 1 / 4), 64),
  (.init(.resnet18, width: 1 / 4, variant: .d), 48),
  (.init(.resnet50, width: 1 / 8, stem: .small, variant: .d, selectiveKernels: 0.0625, channels: 1), 19),
]

/// Inference in one pass, where convolutions normalise their own output. That it equals the definition in Double is
/// tested with all other modes, in `NetworkTests`.
@Suite struct InferenceTests {
  /// Features of every encoder in one pass, and in two, which a watch asks for.
  @Test(arguments: encoders.indices, [1, 3]) func onePassGivesTheBitsOfTwo(_ index: Int, _ threads: Int) {
    let (options, size) = encoders[index]
    let run = NetworkRun(Network(options), images: 3, size: size, threads: threads)
    let one = run.network.forward(run.x, tap: .features, run.pass(.inference)).output.bits
    run.context.watch = Watch()
    let two = run.network.forward(run.x, tap: .features, run.pass(.inference)).output.bits
    #expect(one == two, "\(options)")
    #expect(Set(one).count > 1)
  }

  /// A training pass of a frozen encoder is inference.
  @Test(arguments: encoders.indices) func aFrozenEncoderInfers(_ index: Int) {
    let (options, size) = encoders[index]
    let head = [Head.Layer(5, bias: true)]
    let run = NetworkRun(Network(options, head: head, rules: [Rule(.encoder, trains: false)]), images: 3, size: size)
    let trained = run.network.forward(run.x, run.pass(.train))
    let inferred = run.network.forward(run.x, run.pass(.inference))
    #expect(trained.features.bits == inferred.features.bits && trained.output.bits == inferred.output.bits)
  }

  /// So many images that stages take them in parts: the same bits as image by image.
  @Test func partsOfABatchChangeNoBit() {
    let options = ResNet.Options(.resnet18, width: 1 / 8, stem: .small)
    let run = NetworkRun(Network(options), images: 70, size: 64, arena: Arena(reserving: 1 << 30))
    let pass = run.pass(.inference)
    let taps: [Network.Tap] = [.map("stem"), .map("layer2"), .features]
    let whole = run.network.forward(run.x, to: taps, pass)
    for image in [0, 31, 64, 69] {
      let one = run.network.forward(run.x.images(image..<image + 1), to: taps, pass)
      for tap in taps { #expect(whole[tap].images(image..<image + 1).bits == one[tap].bits, "image \(image), \(tap)") }
    }
  }

  /// Where only the last stage trains, nothing below is recorded, and the gradients are those of a whole record.
  @Test(arguments: [false, true]) func whatIsFrozenBelowIsNotRecorded(_ hasMap: Bool) {
    let options = ResNet.Options(.resnet18, width: 1 / 8, stem: .small)
    let statistics = Rule(kinds: [.mean, .variance], trains: false)
    let frozen = ["stem", "conv1", "bn1", "layer1", "layer2", "layer3"].map {
      Rule(PartName(rawValue: "encoder.\($0)"), trains: false)
    }
    let taps: [Network.Tap] = hasMap ? [.features, .map("layer3")] : [.features]
    let part = NetworkRun(Network(options, rules: [statistics] + frozen))
    let whole = NetworkRun(Network(options, rules: [statistics]))
    part.step(taps)
    whole.step(taps)
    let trained = part.network.parameters.entries.filter(\.trains)
    #expect(trained.allSatisfy { $0.name.hasPrefix("encoder.layer4") } && !trained.isEmpty)
    for entry in trained { #expect(part.gradients[entry.name] == whole.gradients[entry.name], "\(entry.name)") }
    #expect(part.context.arena.peak < whole.context.arena.peak)
  }
}
