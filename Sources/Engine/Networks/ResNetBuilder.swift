/// Lays out a ResNet's parameters, in torchvision's order where torchvision has them.
struct ResNetBuilder {
  let options: ResNet.Options
  var parameters: ParameterLayout, statistics: ParameterLayout
  let part: PartName

  private mutating func convolution(
    _ name: String, _ inputs: Int, _ filters: Int, kernel: Int, stride: Int
  ) -> Convolution {
    let initialisation: Initialisation =
      switch options.initialisation {
      case .kaiming: .kaimingFanOut(kernel * kernel * filters)
      case .varianceScaling: .varianceScaling(fanIn: kernel * kernel * inputs)
      }
    return Convolution(
      &parameters, "\(part).\(name)", inputs: inputs, filters: filters, kernel: kernel, stride: stride,
      padding: kernel / 2,
      initialisation)
  }

  private mutating func convNorm(
    _ conv: String, _ norm: String, _ inputs: Int, _ filters: Int, kernel: Int, stride: Int = 1, last: Bool = false
  ) -> ConvNorm {
    let convolution = self.convolution(conv, inputs, filters, kernel: kernel, stride: stride)
    let norm = BatchNorm(
      &parameters, &statistics, "\(part).\(norm)", channels: filters,
      initialScale: last && options.zeroInitLastBN ? 0 : 1)
    return ConvNorm(convolution: convolution, norm: norm)
  }

  mutating func stem() -> ResNetStem {
    let channels = options.channels
    let planes = options.planes
    let half = max(1, planes / 2)
    switch (options.stem, options.variant) {
    case (.small, _): return ResNetStem(units: [convNorm("conv1", "bn1", channels, planes, kernel: 3)], pools: false)
    case (.imagenet, .b):
      return ResNetStem(units: [convNorm("conv1", "bn1", channels, planes, kernel: 7, stride: 2)], pools: true)
    case (.imagenet, .d):
      return ResNetStem(
        units: [
          convNorm("stem.conv1", "stem.bn1", channels, half, kernel: 3, stride: 2),
          convNorm("stem.conv2", "stem.bn2", half, half, kernel: 3),
          convNorm("stem.conv3", "stem.bn3", half, planes, kernel: 3),
        ], pools: true)
    }
  }

  mutating func block(_ name: String, inputs: Int, planes: Int, stride: Int, keepsOutput: Bool) -> ResidualBlock {
    let outputs = planes * options.depth.expansion
    var units: [ConvNorm]
    var selection: SelectiveKernels?
    if options.depth.hasBottlenecks {
      let streams = options.selectiveKernels > 0 ? 2 : 1
      units = [
        convNorm(name + ".conv1", name + ".bn1", inputs, planes, kernel: 1),
        convNorm(name + ".conv2", name + ".bn2", planes, streams * planes, kernel: 3, stride: stride),
      ]
      if streams == 2 { selection = selectiveKernels(name + ".sk", planes) }
      units.append(convNorm(name + ".conv3", name + ".bn3", planes, outputs, kernel: 1, last: true))
    } else {
      units = [
        convNorm(name + ".conv1", name + ".bn1", inputs, planes, kernel: 3, stride: stride),
        convNorm(name + ".conv2", name + ".bn2", planes, outputs, kernel: 3, last: true),
      ]
    }
    let shortcut = stride != 1 || inputs != outputs ? self.shortcut(name + ".downsample", inputs, outputs, stride) : nil
    return ResidualBlock(units: units, selection: selection, shortcut: shortcut, keepsOutput: keepsOutput)
  }

  private mutating func selectiveKernels(_ name: String, _ filters: Int) -> SelectiveKernels {
    let squeezed = SelectiveKernels.squeezedChannels(filters: filters, ratio: options.selectiveKernels)
    return SelectiveKernels(
      squeeze: convNorm(name + ".conv1", name + ".bn1", filters, squeezed, kernel: 1),
      expand: convolution(name + ".conv2", squeezed, 2 * filters, kernel: 1, stride: 1))
  }

  /// ResNet-D's shortcut has its own names, so that no program mistakes its weights for torchvision's.
  private mutating func shortcut(_ name: String, _ inputs: Int, _ outputs: Int, _ stride: Int) -> Shortcut {
    switch options.variant {
    case .b:
      Shortcut(mean: nil, projection: convNorm(name + ".0", name + ".1", inputs, outputs, kernel: 1, stride: stride))
    case .d:
      Shortcut(
        mean: ShortcutPool(stride: stride),
        projection: convNorm(name + ".conv", name + ".bn", inputs, outputs, kernel: 1))
    }
  }
}
