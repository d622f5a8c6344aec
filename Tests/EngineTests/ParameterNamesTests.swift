import Engine
import Testing

/// Names and shapes of torchvision's models in its order without `fc`, printed from torchvision's `named_parameters()`.
private let torchvision: [ResNet.Depth: String] = [
  .resnet18: """
  conv1.weight:64x3x7x7 bn1.weight:64 bn1.bias:64 layer1.0.conv1.weight:64x64x3x3 layer1.0.bn1.weight:64
  layer1.0.bn1.bias:64 layer1.0.conv2.weight:64x64x3x3 layer1.0.bn2.weight:64 layer1.0.bn2.bias:64
  layer1.1.conv1.weight:64x64x3x3 layer1.1.bn1.weight:64 layer1.1.bn1.bias:64 layer1.1.conv2.weight:64x64x3x3
  layer1.1.bn2.weight:64 layer1.1.bn2.bias:64 layer2.0.conv1.weight:128x64x3x3 layer2.0.bn1.weight:128
  layer2.0.bn1.bias:128 layer2.0.conv2.weight:128x128x3x3 layer2.0.bn2.weight:128 layer2.0.bn2.bias:128
  layer2.0.downsample.0.weight:128x64x1x1 layer2.0.downsample.1.weight:128 layer2.0.downsample.1.bias:128
  layer2.1.conv1.weight:128x128x3x3 layer2.1.bn1.weight:128 layer2.1.bn1.bias:128
  layer2.1.conv2.weight:128x128x3x3 layer2.1.bn2.weight:128 layer2.1.bn2.bias:128
  layer3.0.conv1.weight:256x128x3x3 layer3.0.bn1.weight:256 layer3.0.bn1.bias:256
  layer3.0.conv2.weight:256x256x3x3 layer3.0.bn2.weight:256 layer3.0.bn2.bias:256
  layer3.0.downsample.0.weight:256x128x1x1 layer3.0.downsample.1.weight:256 layer3.0.downsample.1.bias:256
  layer3.1.conv1.weight:256x256x3x3 layer3.1.bn1.weight:256 layer3.1.bn1.bias:256
  layer3.1.conv2.weight:256x256x3x3 layer3.1.bn2.weight:256 layer3.1.bn2.bias:256
  layer4.0.conv1.weight:512x256x3x3 layer4.0.bn1.weight:512 layer4.0.bn1.bias:512
  layer4.0.conv2.weight:512x512x3x3 layer4.0.bn2.weight:512 layer4.0.bn2.bias:512
  layer4.0.downsample.0.weight:512x256x1x1 layer4.0.downsample.1.weight:512 layer4.0.downsample.1.bias:512
  layer4.1.conv1.weight:512x512x3x3 layer4.1.bn1.weight:512 layer4.1.bn1.bias:512
  layer4.1.conv2.weight:512x512x3x3 layer4.1.bn2.weight:512 layer4.1.bn2.bias:512
  """,
  .resnet50: """
  conv1.weight:64x3x7x7 bn1.weight:64 bn1.bias:64 layer1.0.conv1.weight:64x64x1x1 layer1.0.bn1.weight:64
  layer1.0.bn1.bias:64 layer1.0.conv2.weight:64x64x3x3 layer1.0.bn2.weight:64 layer1.0.bn2.bias:64
  layer1.0.conv3.weight:256x64x1x1 layer1.0.bn3.weight:256 layer1.0.bn3.bias:256
  layer1.0.downsample.0.weight:256x64x1x1 layer1.0.downsample.1.weight:256 layer1.0.downsample.1.bias:256
  layer1.1.conv1.weight:64x256x1x1 layer1.1.bn1.weight:64 layer1.1.bn1.bias:64 layer1.1.conv2.weight:64x64x3x3
  layer1.1.bn2.weight:64 layer1.1.bn2.bias:64 layer1.1.conv3.weight:256x64x1x1 layer1.1.bn3.weight:256
  layer1.1.bn3.bias:256 layer1.2.conv1.weight:64x256x1x1 layer1.2.bn1.weight:64 layer1.2.bn1.bias:64
  layer1.2.conv2.weight:64x64x3x3 layer1.2.bn2.weight:64 layer1.2.bn2.bias:64 layer1.2.conv3.weight:256x64x1x1
  layer1.2.bn3.weight:256 layer1.2.bn3.bias:256 layer2.0.conv1.weight:128x256x1x1 layer2.0.bn1.weight:128
  layer2.0.bn1.bias:128 layer2.0.conv2.weight:128x128x3x3 layer2.0.bn2.weight:128 layer2.0.bn2.bias:128
  layer2.0.conv3.weight:512x128x1x1 layer2.0.bn3.weight:512 layer2.0.bn3.bias:512
  layer2.0.downsample.0.weight:512x256x1x1 layer2.0.downsample.1.weight:512 layer2.0.downsample.1.bias:512
  layer2.1.conv1.weight:128x512x1x1 layer2.1.bn1.weight:128 layer2.1.bn1.bias:128
  layer2.1.conv2.weight:128x128x3x3 layer2.1.bn2.weight:128 layer2.1.bn2.bias:128
  layer2.1.conv3.weight:512x128x1x1 layer2.1.bn3.weight:512 layer2.1.bn3.bias:512
  layer2.2.conv1.weight:128x512x1x1 layer2.2.bn1.weight:128 layer2.2.bn1.bias:128
  layer2.2.conv2.weight:128x128x3x3 layer2.2.bn2.weight:128 layer2.2.bn2.bias:128
  layer2.2.conv3.weight:512x128x1x1 layer2.2.bn3.weight:512 layer2.2.bn3.bias:512
  layer2.3.conv1.weight:128x512x1x1 layer2.3.bn1.weight:128 layer2.3.bn1.bias:128
  layer2.3.conv2.weight:128x128x3x3 layer2.3.bn2.weight:128 layer2.3.bn2.bias:128
  layer2.3.conv3.weight:512x128x1x1 layer2.3.bn3.weight:512 layer2.3.bn3.bias:512
  layer3.0.conv1.weight:256x512x1x1 layer3.0.bn1.weight:256 layer3.0.bn1.bias:256
  layer3.0.conv2.weight:256x256x3x3 layer3.0.bn2.weight:256 layer3.0.bn2.bias:256
  layer3.0.conv3.weight:1024x256x1x1 layer3.0.bn3.weight:1024 layer3.0.bn3.bias:1024
  layer3.0.downsample.0.weight:1024x512x1x1 layer3.0.downsample.1.weight:1024 layer3.0.downsample.1.bias:1024
  layer3.1.conv1.weight:256x1024x1x1 layer3.1.bn1.weight:256 layer3.1.bn1.bias:256
  layer3.1.conv2.weight:256x256x3x3 layer3.1.bn2.weight:256 layer3.1.bn2.bias:256
  layer3.1.conv3.weight:1024x256x1x1 layer3.1.bn3.weight:1024 layer3.1.bn3.bias:1024
  layer3.2.conv1.weight:256x1024x1x1 layer3.2.bn1.weight:256 layer3.2.bn1.bias:256
  layer3.2.conv2.weight:256x256x3x3 layer3.2.bn2.weight:256 layer3.2.bn2.bias:256
  layer3.2.conv3.weight:1024x256x1x1 layer3.2.bn3.weight:1024 layer3.2.bn3.bias:1024
  layer3.3.conv1.weight:256x1024x1x1 layer3.3.bn1.weight:256 layer3.3.bn1.bias:256
  layer3.3.conv2.weight:256x256x3x3 layer3.3.bn2.weight:256 layer3.3.bn2.bias:256
  layer3.3.conv3.weight:1024x256x1x1 layer3.3.bn3.weight:1024 layer3.3.bn3.bias:1024
  layer3.4.conv1.weight:256x1024x1x1 layer3.4.bn1.weight:256 layer3.4.bn1.bias:256
  layer3.4.conv2.weight:256x256x3x3 layer3.4.bn2.weight:256 layer3.4.bn2.bias:256
  layer3.4.conv3.weight:1024x256x1x1 layer3.4.bn3.weight:1024 layer3.4.bn3.bias:1024
  layer3.5.conv1.weight:256x1024x1x1 layer3.5.bn1.weight:256 layer3.5.bn1.bias:256
  layer3.5.conv2.weight:256x256x3x3 layer3.5.bn2.weight:256 layer3.5.bn2.bias:256
  layer3.5.conv3.weight:1024x256x1x1 layer3.5.bn3.weight:1024 layer3.5.bn3.bias:1024
  layer4.0.conv1.weight:512x1024x1x1 layer4.0.bn1.weight:512 layer4.0.bn1.bias:512
  layer4.0.conv2.weight:512x512x3x3 layer4.0.bn2.weight:512 layer4.0.bn2.bias:512
  layer4.0.conv3.weight:2048x512x1x1 layer4.0.bn3.weight:2048 layer4.0.bn3.bias:2048
  layer4.0.downsample.0.weight:2048x1024x1x1 layer4.0.downsample.1.weight:2048 layer4.0.downsample.1.bias:2048
  layer4.1.conv1.weight:512x2048x1x1 layer4.1.bn1.weight:512 layer4.1.bn1.bias:512
  layer4.1.conv2.weight:512x512x3x3 layer4.1.bn2.weight:512 layer4.1.bn2.bias:512
  layer4.1.conv3.weight:2048x512x1x1 layer4.1.bn3.weight:2048 layer4.1.bn3.bias:2048
  layer4.2.conv1.weight:512x2048x1x1 layer4.2.bn1.weight:512 layer4.2.bn1.bias:512
  layer4.2.conv2.weight:512x512x3x3 layer4.2.bn2.weight:512 layer4.2.bn2.bias:512
  layer4.2.conv3.weight:2048x512x1x1 layer4.2.bn3.weight:2048 layer4.2.bn3.bias:2048
  """,
]

@Suite struct ParameterNamesTests {
  /// Our shape (R, S, C, K) in torch's order (K, C, R, S).
  private func torchShape(_ shape: [Int]) -> [Int] {
    shape.count == 4 ? [shape[3], shape[2], shape[0], shape[1]] : shape
  }

  @Test(arguments: [ResNet.Depth.resnet18, .resnet50]) func namesAndShapesAreTorchvisions(depth: ResNet.Depth) {
    let network = Network(.init(depth))
    let found = network.parameters.entries.map {
      "\($0.name.dropFirst("encoder.".count)):\(torchShape($0.shape).map(String.init).joined(separator: "x"))"
    }
    let expected = torchvision[depth]!.split(whereSeparator: \.isWhitespace).map(String.init)
    #expect(found == expected)
    #expect(network.parameters.entries.allSatisfy { $0.name.hasPrefix("encoder.") })
    // torchvision's own counts, without fc.
    #expect(network.parameters.parameterCount == (depth == .resnet18 ? 11_176_512 : 23_508_032))
  }

  /// Every normalisation has running statistics under torchvision's names, in the order of its layers.
  @Test(arguments: [ResNet.Depth.resnet18, .resnet50]) func statisticsFollow(depth: ResNet.Depth) {
    let network = Network(.init(depth))
    let norms = network.parameters.entries.filter { $0.kind == .scale }
    let expected = norms.flatMap { norm in
      ["running_mean", "running_var"].map { norm.name.dropLast("weight".count) + $0 }.map { "\($0):\(norm.shape)" }
    }
    #expect(network.statistics.entries.map { "\($0.name):\($0.shape)" } == expected)
    #expect(network.statistics.entries.map(\.kind) == norms.flatMap { _ in [ParameterKind.mean, .variance] })
    #expect(norms.count == (depth == .resnet18 ? 20 : 53))
  }

  @Test func kindsFollowFromNames() {
    let network = Network(
      .init(.resnet50), head: [.init(64, bias: true, .scaleAndShift), .init(8, bias: false, .scale)])
    for entry in network.parameters.entries {
      let isNorm = entry.name.contains(".bn") || entry.name.contains("downsample.1")
      let isBias = entry.name.hasSuffix("bias")
      #expect(entry.kind == (isNorm ? (isBias ? .shift : .scale) : (isBias ? .bias : .weight)), "\(entry.name)")
    }
    #expect(
      network.parameters.entries.suffix(6).map(\.name) == [
        "head.0.weight", "head.0.bias", "head.0.bn.weight", "head.0.bn.bias", "head.1.weight", "head.1.bn.weight",
      ])
  }

  @Test func headFollowsTheEncoderInTheSlab() {
    let layout = Network(.init(.resnet18, width: 0.25), head: [.init(8, bias: true)]).parameters
    #expect(layout.parts == [.encoder, .head] && layout.entries[0].slice.offset == 0)
  }

  /// Parameters that torchvision does not have, printed from `named_parameters()` of `Scripts/peers/encoders.py`, in
  /// our order.
  @Test func namesOfResNetDAndSelectiveKernels() {
    let network = Network(.init(.resnet50, variant: .d, selectiveKernels: 0.0625))
    let found = network.parameters.entries.prefix { !$0.name.hasPrefix("encoder.layer1.1") }.map {
      "\($0.name.dropFirst("encoder.".count)):\(torchShape($0.shape).map(String.init).joined(separator: "x"))"
    }
    let expected = """
      stem.conv1.weight:32x3x3x3 stem.bn1.weight:32 stem.bn1.bias:32 stem.conv2.weight:32x32x3x3 stem.bn2.weight:32
      stem.bn2.bias:32 stem.conv3.weight:64x32x3x3 stem.bn3.weight:64 stem.bn3.bias:64 layer1.0.conv1.weight:64x64x1x1
      layer1.0.bn1.weight:64 layer1.0.bn1.bias:64 layer1.0.conv2.weight:128x64x3x3 layer1.0.bn2.weight:128
      layer1.0.bn2.bias:128 layer1.0.sk.conv1.weight:32x64x1x1 layer1.0.sk.bn1.weight:32 layer1.0.sk.bn1.bias:32
      layer1.0.sk.conv2.weight:128x32x1x1 layer1.0.conv3.weight:256x64x1x1 layer1.0.bn3.weight:256 layer1.0.bn3.bias:256
      layer1.0.downsample.conv.weight:256x64x1x1 layer1.0.downsample.bn.weight:256 layer1.0.downsample.bn.bias:256
      """
    #expect(found == expected.split(whereSeparator: \.isWhitespace).map(String.init))
    #expect(network.parameters.entry("encoder.layer4.0.sk.conv1.weight")!.shape == [1, 1, 512, 32])
    let large = Network(.init(.resnet50, width: 3, selectiveKernels: 0.0625)).parameters
    #expect(large.entry("encoder.layer4.0.sk.conv1.weight")!.shape == [1, 1, 1536, 96])
    // The small stem has no variant.
    let small = Network(.init(.resnet18, stem: .small, variant: .d)).parameters
    #expect(small.entries[0].name == "encoder.conv1.weight")
    #expect(small.entry("encoder.layer2.0.downsample.conv.weight") != nil)
  }

  /// Millions of parameters, including running statistics, from google-research/simclr `README.md` (SimCLR v2): without
  /// and with selective kernels of ratio 0.0625 and ResNet-D; 0 if they trained none.
  @Test(arguments: [
    (ResNet.Depth.resnet50, 1.0, 24, 35), (.resnet50, 2, 94, 140), (.resnet101, 1, 43, 65), (.resnet101, 2, 170, 257),
    (.resnet152, 1, 58, 89), (.resnet152, 2, 233, 354), (.resnet152, 3, 0, 795),
  ])
  func sizesArePublished(depth: ResNet.Depth, width: Double, plain: Int, selective: Int) {
    func millions(_ options: ResNet.Options) -> Int {
      let network = Network(options)
      return Int((Double(network.parameters.parameterCount + network.statistics.parameterCount) / 1e6).rounded())
    }
    #expect(millions(.init(depth, width: width, variant: .d, selectiveKernels: 0.0625)) == selective)
    if plain > 0 { #expect(millions(.init(depth, width: width)) == plain) }
  }

  /// Effects of width, channels, stem and depth.
  @Test func optionsSayWhatIsBuilt() {
    let small = Network(.init(.resnet18, width: 0.25, stem: .small, channels: 1)).parameters
    #expect(small.entry("encoder.conv1.weight")!.shape == [3, 3, 1, 16])
    #expect(small.entry("encoder.layer4.1.conv2.weight")!.shape == [3, 3, 128, 128])
    #expect(ResNet.Options(.resnet50, width: 2).features == 4096)
    #expect(ResNet.Options(.resnet18, width: 0.001).planes == 1)
    for (depth, blocks) in [(ResNet.Depth.resnet34, 16), (.resnet101, 33), (.resnet152, 50)] {
      let names = Network(.init(depth, width: 1 / 64)).parameters.entries.map(\.name)
      #expect(names.count { $0.hasSuffix("conv1.weight") } == blocks + 1)
    }
  }
}
