/// Residual networks. He et al. 2015, arXiv:1512.03385, in torchvision's form (v1.5: the bottleneck's stride is on its
/// 3×3 convolution); names and layouts of parameters are torchvision's.
package struct ResNet {
  package enum Stem: String, Codable, Sendable {
    /// 7×7 stride 2 and max-pool.
    case imagenet
    /// 3×3 stride 1, no pool: for images up to 64 px.
    case small
  }

  package enum InitialisationScheme: String, Codable, Sendable {
    /// torchvision's: normal, fan-out.
    case kaiming
    /// SimCLR's: truncated normal, fan-in.
    case varianceScaling
  }

  package struct Options: Sendable, Equatable {
    package var depth: Depth
    /// Factor on all channel counts; 1 is 64 … 512 (2048 with bottlenecks).
    package var width: Double
    package var stem: Stem
    /// Channels of the images.
    package var channels: Int
    /// γ of every block's last BN starts at 0.
    package var zeroInitLastBN: Bool
    package var initialisation: InitialisationScheme

    package init(_ depth: Depth, width: Double = 1, stem: Stem = .imagenet, channels: Int = 3, zeroInitLastBN: Bool = false, initialisation: InitialisationScheme = .kaiming) {
      (self.depth, self.width, self.stem, self.channels) = (depth, width, stem, channels)
      (self.zeroInitLastBN, self.initialisation) = (zeroInitLastBN, initialisation)
    }

    package var planes: Int { max(1, Int((64 * width).rounded())) }
    /// D, the dimension of the features.
    package var features: Int { planes * 8 * depth.expansion }
  }

  package enum Depth: String, CaseIterable, Codable, Sendable {
    case resnet18, resnet34, resnet50, resnet101, resnet152

    var blocks: [Int] {
      switch self {
      case .resnet18: [2, 2, 2, 2]
      case .resnet34, .resnet50: [3, 4, 6, 3]
      case .resnet101: [3, 4, 23, 3]
      case .resnet152: [3, 8, 36, 3]
      }
    }
    var hasBottlenecks: Bool { self != .resnet18 && self != .resnet34 }
    var expansion: Int { hasBottlenecks ? 4 : 1 }
  }

  package struct Tape {
    let stem: ConvNorm.Tape
    let winner: UnsafeMutablePointer<UInt8>?
    let blocks: UnsafeMutableBufferPointer<ResidualBlock.Tape>
    /// The last feature map.
    let map: Tensor
    /// (N, 1, 1, D)
    package let features: Tensor
  }

  package let options: Options
  let stem: ConvNorm
  let blocks: [ResidualBlock]

  package init(_ options: Options, _ parameters: inout ParameterLayout, _ statistics: inout ParameterLayout, prefix: String = "encoder.") {
    self.options = options
    var builder = Builder(options: options, parameters: parameters, statistics: statistics, prefix: prefix)
    let planes = options.planes
    stem = options.stem == .imagenet
      ? builder.convNorm("conv1", "bn1", options.channels, planes, kernel: 7, stride: 2)
      : builder.convNorm("conv1", "bn1", options.channels, planes, kernel: 3, stride: 1)
    var blocks: [ResidualBlock] = [], inputs = planes
    for (stage, count) in options.depth.blocks.enumerated() {
      for i in 0..<count {
        let block = builder.block(
          "layer\(stage + 1).\(i)", inputs: inputs, planes: planes << stage, stride: stage > 0 && i == 0 ? 2 : 1)
        blocks.append(block)
        inputs = (planes << stage) * options.depth.expansion
      }
    }
    self.blocks = blocks
    (parameters, statistics) = (builder.parameters, builder.statistics)
  }

  // MARK: Forward

  /// - x: (N, H, W, C) images.
  /// - Returns: the features, (N, D), and what backward needs where the mode records.
  package func forward(_ x: Tensor, _ pass: Pass) -> Tape {
    precondition(x.c == options.channels, "images of \(x.c) channels for an encoder of \(options.channels)")
    let tapes = pass.arena.array(of: ResidualBlock.Tape.self, count: blocks.count)
    let features = pass.arena.tensor(n: x.n, c: options.features)
    if pass.mode.records {
      let (stemTape, winner, first) = forwardStem(x, pass) { pass.arena.tensor(n: $0, h: $1, w: $2, c: $3) }
      var y = first
      for (i, block) in blocks.enumerated() {
        let shape = block.output(y), into = pass.arena.tensor(n: x.n, h: shape.h, w: shape.w, c: shape.c)
        tapes[i] = block.forward(y, into: into, pass)
        y = into
      }
      AveragePool.forward(y, into: features, pass.context)
      return Tape(stem: stemTape, winner: winner, blocks: tapes, map: y, features: features)
    }
    // Nothing is kept: maps alternate between two places.
    return pass.context.scratch { arena in
      let size = largestMap(x), places = (arena.tensor(n: 1, c: size), arena.tensor(n: 1, c: size))
      var even = true
      func place(_ n: Int, _ h: Int, _ w: Int, _ c: Int) -> Tensor {
        even.toggle()
        return Tensor((even ? places.0 : places.1).data, n: n, h: h, w: w, c: c)
      }
      let (stemTape, winner, first) = forwardStem(x, pass, place)
      var y = first
      for block in blocks {
        let shape = block.output(y), into = place(x.n, shape.h, shape.w, shape.c)
        pass.context.scratch { _ in _ = block.forward(y, into: into, pass) }
        y = into
      }
      AveragePool.forward(y, into: features, pass.context)
      return Tape(stem: stemTape, winner: winner, blocks: tapes, map: y, features: features)
    }
  }

  private func forwardStem(_ x: Tensor, _ pass: Pass, _ place: (Int, Int, Int, Int) -> Tensor) -> (ConvNorm.Tape, UnsafeMutablePointer<UInt8>?, Tensor) {
    let shape = stem.output(x)
    let tape = stem.forward(x, relu: true, into: place(x.n, shape.h, shape.w, shape.c), pass)
    guard options.stem == .imagenet else { return (tape, nil, tape.y) }
    let pooled = place(x.n, MaxPool.extent(of: shape.h), MaxPool.extent(of: shape.w), shape.c)
    let winner = pass.mode.records ? pass.arena.array(of: UInt8.self, count: pooled.count).baseAddress : nil
    MaxPool.forward(tape.y, into: pooled, winner: winner, pass.context)
    return (tape, winner, pooled)
  }

  /// Floats of the largest map between blocks.
  private func largestMap(_ x: Tensor) -> Int {
    var (h, w, c) = stem.output(x)
    var largest = h * w * c
    if options.stem == .imagenet { (h, w) = (MaxPool.extent(of: h), MaxPool.extent(of: w)) }
    for block in blocks {
      (h, w, c) = block.output(Tensor(x.data, n: 1, h: h, w: w, c: c))
      largest = max(largest, h * w * c)
    }
    return largest * x.n
  }

  // MARK: Backward

  /// Adds to the gradients of all parameters.
  /// - d: gradient of the features, (N, D).
  package func backward(_ d: Tensor, _ tape: Tape, _ pass: Pass) {
    pass.context.scratch { arena in
      let size = largestMap(tape.stem.x), places = (arena.tensor(n: 1, c: size), arena.tensor(n: 1, c: size))
      var even = false
      func place(like other: Tensor) -> Tensor {
        even.toggle()
        return Tensor((even ? places.0 : places.1).data, n: other.n, h: other.h, w: other.w, c: other.c)
      }
      var dy = place(like: tape.map)
      AveragePool.backward(d, dx: dy, pass.context)
      for (i, block) in blocks.enumerated().reversed() {
        let dx = place(like: tape.blocks[i].x)
        pass.context.scratch { _ in block.backward(dy, tape.blocks[i], dx: dx, pass) }
        dy = dx
        pass.reducer?.ready(from: block.firstParameter)
      }
      if let winner = tape.winner {
        let dx = place(like: tape.stem.y)
        MaxPool.backward(dy, winner: winner, dx: dx, pass.context)
        dy = dx
      }
      stem.backward(dy, tape.stem, dx: nil, pass)
    }
  }
}

/// A basic block (two 3×3 convolutions) or a bottleneck (1×1, 3×3, 1×1), and its shortcut.
package struct ResidualBlock {
  let units: [ConvNorm]
  let downsample: ConvNorm?

  struct Tape: BitwiseCopyable {
    let x: Tensor
    let first: ConvNorm.Tape, middle: ConvNorm.Tape?, last: ConvNorm.Tape
    let shortcut: ConvNorm.Tape?
  }

  /// Where this block's parameters begin in the slab.
  var firstParameter: Int { units[0].convolution.weight.offset }

  func output(_ x: Tensor) -> (h: Int, w: Int, c: Int) {
    var shape = (h: x.h, w: x.w, c: x.c)
    for unit in units { shape = unit.output(Tensor(x.data, n: 1, h: shape.h, w: shape.w, c: shape.c)) }
    return shape
  }

  func forward(_ x: Tensor, into y: Tensor, _ pass: Pass) -> Tape {
    let shortcut = downsample?.forward(x, relu: false, pass)
    let first = units[0].forward(x, relu: true, pass)
    let middle = units.count == 3 ? units[1].forward(first.y, relu: true, pass) : nil
    let last = units[units.count - 1].forward(
      (middle ?? first).y, residual: shortcut?.y ?? x, relu: true, into: y, pass)
    return Tape(x: x, first: first, middle: middle, last: last, shortcut: shortcut)
  }

  /// - dx: overwritten.
  func backward(_ dy: Tensor, _ tape: Tape, dx: Tensor, _ pass: Pass) {
    var d = pass.arena.tensor(like: tape.last.x)
    units[units.count - 1].backward(dy, tape.last, dx: d, pass)  // dy is masked now
    if let middle = tape.middle {
      let next = pass.arena.tensor(like: middle.x)
      units[1].backward(d, middle, dx: next, pass)
      d = next
    }
    if let downsample, let shortcut = tape.shortcut {
      downsample.backward(dy, shortcut, dx: dx, pass)
    } else {
      pass.context.elementwise(dx.count) { (dx.data + $0.lowerBound).update(from: dy.data + $0.lowerBound, count: $0.count) }
    }
    units[0].backward(d, tape.first, dx: dx, accumulate: true, pass)
  }
}

/// Lays out the parameters in torchvision's order.
private struct Builder {
  let options: ResNet.Options
  var parameters: ParameterLayout, statistics: ParameterLayout
  let prefix: String

  mutating func convNorm(_ conv: String, _ norm: String, _ inputs: Int, _ filters: Int, kernel: Int, stride: Int, last: Bool = false) -> ConvNorm {
    let initialisation: Initialisation = switch options.initialisation {
    case .kaiming: .kaimingFanOut(kernel * kernel * filters)
    case .varianceScaling: .varianceScaling(fanIn: kernel * kernel * inputs)
    }
    let convolution = Convolution(
      &parameters, prefix + conv, inputs: inputs, filters: filters, kernel: kernel, stride: stride, padding: kernel / 2,
      initialisation)
    let norm = BatchNorm(
      &parameters, &statistics, prefix + norm, channels: filters, initialScale: last && options.zeroInitLastBN ? 0 : 1)
    return ConvNorm(convolution: convolution, norm: norm)
  }

  mutating func block(_ name: String, inputs: Int, planes: Int, stride: Int) -> ResidualBlock {
    let outputs = planes * options.depth.expansion
    var units: [ConvNorm]
    if options.depth.hasBottlenecks {
      units = [
        convNorm(name + ".conv1", name + ".bn1", inputs, planes, kernel: 1, stride: 1),
        convNorm(name + ".conv2", name + ".bn2", planes, planes, kernel: 3, stride: stride),
        convNorm(name + ".conv3", name + ".bn3", planes, outputs, kernel: 1, stride: 1, last: true),
      ]
    } else {
      units = [
        convNorm(name + ".conv1", name + ".bn1", inputs, planes, kernel: 3, stride: stride),
        convNorm(name + ".conv2", name + ".bn2", planes, outputs, kernel: 3, stride: 1, last: true),
      ]
    }
    var downsample: ConvNorm?
    if stride != 1 || inputs != outputs {
      downsample = convNorm(name + ".downsample.0", name + ".downsample.1", inputs, outputs, kernel: 1, stride: stride)
    }
    return ResidualBlock(units: units, downsample: downsample)
  }
}
