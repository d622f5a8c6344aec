import Engine

/// A residual network and its head in Double. Its structure is derived from the names and shapes of the parameters, not
/// from the engine's code.
final class ReferenceNetwork {
  let tape: ReferenceTape
  private(set) var parameters: [String: Node] = [:]
  /// The running statistics after the forward pass.
  private(set) var statistics: [String: [Double]] = [:]
  /// The outputs of the stem and of the stages, by name.
  private(set) var maps: [String: Node] = [:]
  private var shapes: [String: [Int]] = [:]
  private let groups: [Int]
  private let usesBatchStatistics: Bool

  /// - Parameters:
  ///   - groups: the BN group of every image.
  ///   - noise: see `ReferenceTape`.
  init(_ state: NetworkState, groups: [Int], usesBatchStatistics: Bool, noise: Double = 0) {
    tape = ReferenceTape(noise: noise)
    self.groups = groups
    self.usesBatchStatistics = usesBatchStatistics
    for entry in state.parameters.layout.entries {
      parameters[entry.name] = Node(Map(n: 1, c: entry.slice.count, state.parameters.values(entry.slice)))
      shapes[entry.name] = entry.shape
    }
    for entry in state.statistics.layout.entries { statistics[entry.name] = state.statistics.values(entry.slice) }
  }

  private func norm(_ x: Node, _ name: String) -> Node {
    let mean = name + ".running_mean"
    let variance = name + ".running_var"
    let old = (mean: statistics[mean]!, variance: statistics[variance]!)
    var frozen: ReferenceBatchNorm.Moments?
    if usesBatchStatistics {
      let new = ReferenceBatchNorm.running(old, ReferenceBatchNorm.moments(x.value, groups))
      statistics[mean] = new.mean
      statistics[variance] = new.variance
    } else {
      frozen = .init(mean: [old.mean], variance: [old.variance], count: [1])
    }
    return tape.norm(x, parameters[name + ".weight"]!, parameters[name + ".bias"], groups: groups, frozen: frozen)
  }

  private func convNorm(_ x: Node, _ conv: String, _ norm: String, stride: Int) -> Node {
    let name = conv + ".weight"
    let z = tape.convolution(x, parameters[name]!, kernel: shapes[name]![0], stride: stride)
    return self.norm(z, norm)
  }

  private func block(_ x: Node, _ name: String, stride: Int) -> Node {
    func unit(_ x: Node, _ i: Int, stride: Int) -> Node {
      convNorm(x, "\(name).conv\(i)", "\(name).bn\(i)", stride: stride)
    }
    let isBottleneck = parameters[name + ".conv3.weight"] != nil
    var y = tape.relu(unit(x, 1, stride: isBottleneck ? 1 : stride))
    if isBottleneck { y = tape.relu(unit(y, 2, stride: stride)) }
    if parameters[name + ".sk.conv1.weight"] != nil { y = select(y, name + ".sk") }
    y = unit(y, isBottleneck ? 3 : 2, stride: 1)
    return tape.relu(y, residual: shortcut(x, name + ".downsample", stride: stride))
  }

  /// torchvision's projection, ResNet-D's, or none.
  private func shortcut(_ x: Node, _ name: String, stride: Int) -> Node {
    if parameters[name + ".0.weight"] != nil { return convNorm(x, name + ".0", name + ".1", stride: stride) }
    guard parameters[name + ".conv.weight"] != nil else { return x }
    return convNorm(tape.mean(x, stride: stride), name + ".conv", name + ".bn", stride: 1)
  }

  /// Selective kernels with two streams.
  private func select(_ x: Node, _ name: String) -> Node {
    let u = tape.relu(convNorm(tape.pooledStreams(x), name + ".conv1", name + ".bn1", stride: 1))
    return tape.mix(x, tape.convolution(u, parameters[name + ".conv2.weight"]!, kernel: 1, stride: 1))
  }

  /// The stem.
  private func stem(_ images: Node, _ prefix: String) -> Node {
    func unit(_ x: Node, _ i: Int, stride: Int) -> Node {
      tape.relu(convNorm(x, "\(prefix)stem.conv\(i)", "\(prefix)stem.bn\(i)", stride: stride))
    }
    guard parameters[prefix + "stem.conv1.weight"] == nil else {
      return tape.maxPool(unit(unit(unit(images, 1, stride: 2), 2, stride: 1), 3, stride: 1))
    }
    let isLarge = shapes[prefix + "conv1.weight"]![0] == 7
    let y = tape.relu(convNorm(images, prefix + "conv1", prefix + "bn1", stride: isLarge ? 2 : 1))
    return isLarge ? tape.maxPool(y) : y
  }

  /// Features (N, D) of images.
  func encode(_ images: Map, prefix: String = "encoder.") -> Node {
    var y = stem(Node(images), prefix)
    maps["stem"] = y
    for stage in 1...4 {
      var i = 0
      while parameters["\(prefix)layer\(stage).\(i).conv1.weight"] != nil {
        y = block(y, "\(prefix)layer\(stage).\(i)", stride: stage > 1 && i == 0 ? 2 : 1)
        i += 1
      }
      maps["layer\(stage)"] = y
    }
    return tape.averagePool(y)
  }

  /// Embeddings (N, D) of features, or (N, H, W, D) of a map, then without bias.
  /// - relu: for each layer, whether it ends with a ReLU.
  func project(_ input: Node, relu: [Bool], head: String = "head") -> Node {
    var y = input
    for (i, relu) in relu.enumerated() {
      let name = parameters["\(head).\(i).weight"] == nil ? head : "\(head).\(i)"
      let weight = parameters[name + ".weight"]!
      if input.value.h * input.value.w > 1 {
        y = tape.convolution(y, weight, kernel: shapes[name + ".weight"]!.count == 4 ? 3 : 1, stride: 1)
      } else {
        y = tape.linear(y, weight, parameters[name + ".bias"])
      }
      if parameters[name + ".bn.weight"] != nil { y = norm(y, name + ".bn") }
      if relu { y = tape.relu(y) }
    }
    return y
  }
}

extension ParameterSlab {
  /// The values of one parameter.
  func values(_ slice: Slice) -> [Double] {
    UnsafeBufferPointer(start: self[slice], count: slice.count).map(Double.init)
  }
}
