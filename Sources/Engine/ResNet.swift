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
    /// The images.
    let x: Tensor
    let stem: ConvNorm.Tape
    let winner: UnsafeMutablePointer<UInt8>?
    /// What the first block got.
    let first: Tensor
    let blocks: UnsafeMutableBufferPointer<ResidualBlock.Tape>
    /// Where each block's tape begins on the arena's lower stack.
    let starts: UnsafeMutableBufferPointer<Arena.Mark>?
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
          "layer\(stage + 1).\(i)", inputs: inputs, planes: planes << stage, stride: stage > 0 && i == 0 ? 2 : 1,
          keepsOutput: i % 2 == 0)
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
    let arena = pass.arena, tapes = arena.array(of: ResidualBlock.Tape.self, count: blocks.count)
    let features = arena.tensor(n: x.n, c: options.features)
    if pass.mode.records {
      let (stemTape, winner, first) = forwardStem(x, pass) { arena.tensor(n: $0, h: $1, w: $2, c: $3) }
      let starts = arena.array(of: Arena.Mark.self, count: blocks.count), below = arena.mark()
      var y = first
      for (i, block) in blocks.enumerated() {
        let shape = block.output(y)
        starts[i] = arena.mark()
        let into = block.keepsOutput
          ? arena.tensor(n: x.n, h: shape.h, w: shape.w, c: shape.c)
          : arena.brief(n: x.n, h: shape.h, w: shape.w, c: shape.c)
        let above = arena.mark()
        tapes[i] = block.forward(y, into: into, pass)
        arena.releaseUpper(to: block.keepsOutput ? below : above)
        y = into
      }
      AveragePool.forward(y, into: features, pass.context)
      arena.releaseUpper(to: below)
      return Tape(
        x: x, stem: stemTape, winner: winner, first: first, blocks: tapes, starts: starts, features: features)
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
      return Tape(x: x, stem: stemTape, winner: winner, first: first, blocks: tapes, starts: nil, features: features)
    }
  }

  /// - place: where the stem's output goes.
  private func forwardStem(
    _ x: Tensor, _ pass: Pass, _ place: (Int, Int, Int, Int) -> Tensor
  ) -> (ConvNorm.Tape, UnsafeMutablePointer<UInt8>?, Tensor) {
    let shape = stem.output(x)
    guard options.stem == .imagenet else {
      let y = place(x.n, shape.h, shape.w, shape.c)
      return (stem.forward(x, relu: true, into: y, pass), nil, y)
    }
    let pooled = place(x.n, MaxPool.extent(of: shape.h), MaxPool.extent(of: shape.w), shape.c)
    let winner = pass.mode.records ? pass.arena.array(of: UInt8.self, count: pooled.count).baseAddress : nil
    let mark = pass.arena.mark(), (tape, y) = stem.forward(x, relu: true, pass)
    pass.context.part(.pooling, bytes: y.bytes + pooled.bytes) {
      MaxPool.forward(y, into: pooled, winner: winner, pass.context)
    }
    pass.arena.releaseUpper(to: mark)
    return (tape, winner, pooled)
  }

  /// Floats of the largest map between blocks.
  private func largestMap(_ x: Tensor) -> Int {
    var (h, w, c) = stem.output(x)
    if options.stem == .imagenet { (h, w) = (MaxPool.extent(of: h), MaxPool.extent(of: w)) }
    var largest = h * w * c
    for block in blocks {
      (h, w, c) = block.output(Tensor(x.data, n: 1, h: h, w: w, c: c))
      largest = max(largest, h * w * c)
    }
    return largest * x.n
  }

  // MARK: Backward

  /// Adds to the gradients of all parameters.
  /// - Parameters:
  ///   - d: gradient of the features, (N, D).
  ///   - consuming: whether blocks that are done with are taken off the arena's lower stack, which ends with the tape.
  package func backward(_ d: Tensor, _ tape: Tape, consuming: Bool = false, _ pass: Pass) {
    let arena = pass.arena, start = arena.mark()
    var y = output(blocks.count - 1, tape, pass), dy = arena.brief(like: y)
    var belowMade = start
    AveragePool.backward(d, dx: dy, pass.context)
    for (i, block) in blocks.enumerated().reversed() {
      // Where the input is the residual, its gradient takes the place of the output's.
      let dx = block.downsample == nil ? dy : arena.brief(like: i == 0 ? tape.first : tape.blocks[i - 1].last.z)
      let below = arena.mark(), x = output(i - 1, tape, pass)
      pass.context.scratch { _ in block.backward(dy, tape.blocks[i], x: x, y: y, dx: dx, pass) }
      if !block.keepsOutput, i < blocks.count - 1 { arena.releaseUpper(to: belowMade) }
      (dy, y, belowMade) = (dx, x, below)
      if consuming { arena.releaseLower(to: tape.starts![i]) }
      pass.reducer?.ready(from: block.firstParameter)
    }
    if let winner = tape.winner {
      let dx = arena.brief(like: tape.stem.z)
      pass.context.part(.pooling, bytes: dy.bytes + dx.bytes) {
        MaxPool.backward(dy, winner: winner, dx: dx, pass.context)
      }
      dy = dx
    }
    stem.backward(dy, tape.stem, x: tape.x, dx: nil, pass)
    arena.releaseUpper(to: start)
  }

  /// The output of a block, or of what is before the first: as it was kept, or made again on the upper stack.
  private func output(_ i: Int, _ tape: Tape, _ pass: Pass) -> Tensor {
    if i < 0 { return tape.first }
    if let y = tape.blocks[i].y { return y }
    let y = pass.arena.brief(like: tape.blocks[i].last.z)
    blocks[i].again(tape.blocks[i], x: i == 0 ? tape.first : tape.blocks[i - 1].y!, into: y, pass)
    return y
  }
}

/// A basic block (two 3×3 convolutions) or a bottleneck (1×1, 3×3, 1×1), and its shortcut.
///
/// Backward makes again what is cheap to have: the units' normalised outputs, and the sums of blocks that do not keep
/// theirs. It costs a hundredth of a step's time, and saves a third of its memory.
package struct ResidualBlock {
  let units: [ConvNorm]
  let downsample: ConvNorm?
  /// Whether the output stays for backward. Every other block of a stage leaves it to be made from its kept input.
  let keepsOutput: Bool

  struct Tape: BitwiseCopyable {
    let first: ConvNorm.Tape, middle: ConvNorm.Tape?, last: ConvNorm.Tape
    let shortcut: ConvNorm.Tape?
    /// The output, where it is kept.
    let y: Tensor?
  }

  /// Where this block's parameters begin in the slab.
  var firstParameter: Int { units[0].convolution.weight.offset }

  func output(_ x: Tensor) -> (h: Int, w: Int, c: Int) {
    var shape = (h: x.h, w: x.w, c: x.c)
    for unit in units { shape = unit.output(Tensor(x.data, n: 1, h: shape.h, w: shape.w, c: shape.c)) }
    return shape
  }

  func forward(_ x: Tensor, into y: Tensor, _ pass: Pass) -> Tape {
    let mark = pass.arena.mark()
    let shortcut = downsample?.forward(x, relu: false, pass)
    let first = units[0].forward(x, relu: true, pass)
    let middle = units.count == 3 ? units[1].forward(first.y, relu: true, pass) : nil
    let last = units[units.count - 1].forward(
      (middle ?? first).y, residual: shortcut?.y ?? x, relu: true, into: y, pass)
    pass.arena.releaseUpper(to: mark)
    return Tape(
      first: first.tape, middle: middle?.tape, last: last, shortcut: shortcut?.tape, y: keepsOutput ? y : nil)
  }

  /// The output of forward from its tape and input, to the bit.
  func again(_ tape: Tape, x: Tensor, into y: Tensor, _ pass: Pass) {
    precondition(downsample == nil, "a block that changes the shape keeps its output")
    units[units.count - 1].again(tape.last, residual: x, into: y, pass)
  }

  /// - Parameters:
  ///   - x: the input. y: the output.
  ///   - dx: overwritten. dy itself where the input is the residual.
  func backward(_ dy: Tensor, _ tape: Tape, x: Tensor, y: Tensor, dx: Tensor, _ pass: Pass) {
    // A unit's input is made again, and gives its place to its gradient once the weight's gradient has been had.
    let count = units.count
    var d = units[count - 2].again(tape.middle ?? tape.first, pass)
    units[count - 1].backward(dy, tape.last, x: d, y: y, dx: d, pass)  // dy is masked now
    if let middle = tape.middle {
      let next = units[0].again(tape.first, pass)
      units[1].backward(d, middle, x: next, dx: next, pass)
      d = next
    }
    if let downsample, let shortcut = tape.shortcut { downsample.backward(dy, shortcut, x: x, dx: dx, pass) }
    units[0].backward(d, tape.first, x: x, dx: dx, accumulate: true, pass)
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

  mutating func block(
    _ name: String, inputs: Int, planes: Int, stride: Int, keepsOutput: Bool
  ) -> ResidualBlock {
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
    return ResidualBlock(units: units, downsample: downsample, keepsOutput: keepsOutput)
  }
}
