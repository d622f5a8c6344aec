import Engine
import Testing

private func network(
  _ depth: ResNet.Depth = .resnet18, channels: Int = 1, width: Double = 1 / 32, heads: [HeadPlan] = [three]
) -> Network {
  Network(.resnet(.init(depth, width: width, stem: .small, channels: channels)), heads: heads)
}

private let three = HeadPlan(
  .head, [.init(11, bias: false, .scaleAndShift, relu: true), .init(7, bias: true), .init(5, bias: true)])

@Suite struct PartTests {
  /// A path ends at a dot: `head.1` is not `head.10`, and `head` is not `header`.
  @Test func pathsEndAtDots() {
    let part: PartName = "head.1"
    #expect(part.covers("head.1.weight") && part.covers("head.1") && part.covers("head.1.bn.bias"))
    #expect(!part.covers("head.10.weight") && !part.covers("head") && !PartName.head.covers("header.weight"))
    #expect(part.localName("head.1.bn.bias") == "bn.bias")
    #expect(PartName.head.layers(1..<3) == ["head.1", "head.2"])
  }

  /// Counted by hand: the head's 16·11 + 2·11, 11·7 + 7 and 7·5 + 5.
  @Test func countsLeavePaddingOut() {
    let layout = network().parameters
    #expect(layout.parameterCount(of: .head) == 198 + 84 + 40)
    #expect(layout.parameterCount(of: .encoder) + layout.parameterCount(of: .head) == layout.parameterCount)
    #expect(layout.parameterCount < layout.count)
  }

  /// Parameters and running statistics of the parts are copied bit by bit; all others do not change.
  @Test(
    arguments: [[.encoder], ["head.0"], ["encoder.layer2", "head.1"], PartName.head.layers(0..<2)] as [[PartName]])
  func partsAreCopied(parts: [PartName]) throws {
    let wide = HeadPlan(.head, Array(three.layers.prefix(2)))
    let from = network(heads: [wide, HeadPlan("other", [.init(3, bias: true)])]).makeState()
    let to = network().makeState()
    let before = network().makeState()
    from.randomise(seed: 1)
    to.randomise(seed: 2)
    before.randomise(seed: 2)
    try to.copy(parts, from: from)
    var copied = 0
    for (slab, source, old) in [
      (to.parameters, from.parameters, before.parameters), (to.statistics, from.statistics, before.statistics),
    ] {
      for entry in slab.layout.entries {
        let isCopied = parts.contains { $0.covers(entry.name) }
        let expected = isCopied ? source.values(source.layout.entry(entry.name)!.slice) : old.values(entry.slice)
        #expect(slab.values(entry.slice) == expected, "\(entry.name)")
        if isCopied { copied += 1 }
      }
    }
    #expect(copied > 2)
  }

  struct Refusal: Sendable {
    let parts: [PartName], from: Network, words: String
  }

  /// The error names part, parameter and shapes, and nothing is copied.
  @Test(arguments: [
    Refusal(parts: ["heda"], from: network(), words: "part `heda`: the network has no such part; it has encoder, head"),
    Refusal(
      parts: [.head, .encoder], from: network(channels: 3),
      words: "part `encoder`: `encoder.conv1.weight` has shape [3, 3, 1, 2], and [3, 3, 3, 2] where it is copied from"),
    Refusal(
      parts: [.encoder], from: network(.resnet34),
      words:
        "part `encoder`: it is copied from one with `encoder.layer1.2.conv1.weight` of shape [3, 3, 2, 2], "
        + "which it lacks"
    ),
    Refusal(
      parts: ["head.2"], from: network(heads: [HeadPlan(.head, Array(three.layers.prefix(2)))]),
      words: "part `head.2`: `head.2.weight` of shape [7, 5] is missing where it is copied from"),
  ])
  func unequalPartsAreRefused(refusal: Refusal) {
    let to = network().makeState()
    let from = refusal.from.makeState()
    to.randomise(seed: 2)
    from.randomise(seed: 1)
    let before = (to.parameters.bits, to.statistics.bits)
    let error = #expect(throws: PartError.self) { try to.copy(refusal.parts, from: from) }
    #expect(error?.description == refusal.words)
    #expect(to.parameters.bits == before.0 && to.statistics.bits == before.1)
  }
}
