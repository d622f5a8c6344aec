/// Residual networks. He et al. 2015, arXiv:1512.03385, in torchvision's form (v1.5: the bottleneck's stride is on its
/// 3×3 convolution); names and layouts of parameters are torchvision's. Beside it ResNet-D and selective kernels, which
/// torchvision has not: `stem.*`, `downsample.conv`, `downsample.bn` and `sk.*` are names of our own.
package struct ResNet {
  package enum Stem: String, Codable, Sendable {
    /// 7×7 stride 2, or the three 3×3 of ResNet-D, and max-pool.
    case imagenet
    /// 3×3 stride 1, no pool: for images up to 64 px.
    case small
  }

  /// The letters of He et al. 2018, Bag of Tricks for Image Classification, arXiv:1812.01187.
  package enum Variant: String, Codable, Sendable {
    /// torchvision's.
    case b
    /// The imagenet stem is three 3×3 convolutions, and shortcuts take a mean over 2×2 before a 1×1 without stride. The
    /// small stem stays as it is, so with it the shortcuts alone change (google-research/simclr `tf2/resnet.py`).
    case d
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
    package var variant: Variant
    /// Share of a bottleneck's channels that the choice between its two streams squeezes to, at least 32 channels; 0
    /// for blocks of one stream. See `SelectiveKernels`.
    package var selectiveKernels: Double
    /// Channels of the images.
    package var channels: Int
    /// γ of every block's last BN starts at 0.
    package var zeroInitLastBN: Bool
    package var initialisation: InitialisationScheme

    package init(
      _ depth: Depth, width: Double = 1, stem: Stem = .imagenet, variant: Variant = .b, selectiveKernels: Double = 0,
      channels: Int = 3, zeroInitLastBN: Bool = false, initialisation: InitialisationScheme = .kaiming
    ) {
      precondition(selectiveKernels == 0 || depth.hasBottlenecks, "\(depth) has no bottlenecks for selective kernels")
      self.depth = depth
      self.width = width
      self.stem = stem
      self.channels = channels
      self.variant = variant
      self.selectiveKernels = selectiveKernels
      self.zeroInitLastBN = zeroInitLastBN
      self.initialisation = initialisation
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
    package var hasBottlenecks: Bool { self != .resnet18 && self != .resnet34 }
    var expansion: Int { hasBottlenecks ? 4 : 1 }
  }

  package struct Tape {
    /// The images.
    let x: Tensor
    let stem: ResNetStem.Tape
    /// What the first block got.
    let first: Tensor
    let blocks: UnsafeMutableBufferPointer<ResidualBlock.Tape>
    /// Where each block's tape begins on the arena's lower stack.
    let starts: UnsafeMutableBufferPointer<Arena.Mark>?
    /// (N, 1, 1, D)
    package let features: Tensor
  }

  package let options: Options
  let stem: ResNetStem
  let blocks: [ResidualBlock]

  package init(
    _ options: Options, _ parameters: inout ParameterLayout, _ statistics: inout ParameterLayout,
    prefix: String = "encoder."
  ) {
    self.options = options
    var builder = ResNetBuilder(options: options, parameters: parameters, statistics: statistics, prefix: prefix)
    let planes = options.planes
    stem = builder.stem()
    var blocks: [ResidualBlock] = []
    var inputs = planes
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
    parameters = builder.parameters
    statistics = builder.statistics
  }

  // MARK: Forward

  /// - x: (N, H, W, C) images.
  /// - Returns: the features, (N, D), and what backward needs where the mode records.
  package func forward(_ x: Tensor, _ pass: Pass) -> Tape {
    precondition(x.c == options.channels, "images of \(x.c) channels for an encoder of \(options.channels)")
    let arena = pass.arena
    let tapes = arena.array(of: ResidualBlock.Tape.self, count: blocks.count)
    let features = arena.tensor(n: x.n, c: options.features)
    let shape = stem.output(x)
    if pass.mode.records {
      let first = arena.tensor(n: x.n, h: shape.h, w: shape.w, c: shape.c)
      let stemTape = stem.forward(x, into: first, pass)
      let starts = arena.array(of: Arena.Mark.self, count: blocks.count)
      let below = arena.mark()
      var y = first
      for (i, block) in blocks.enumerated() {
        let shape = block.output(y)
        starts[i] = arena.mark()
        let into =
          block.keepsOutput
          ? arena.tensor(n: x.n, h: shape.h, w: shape.w, c: shape.c)
          : arena.brief(n: x.n, h: shape.h, w: shape.w, c: shape.c)
        let above = arena.mark()
        tapes[i] = block.forward(y, into: into, pass)
        arena.releaseUpper(to: block.keepsOutput ? below : above)
        y = into
      }
      AveragePool.forward(y, into: features, pass.context)
      arena.releaseUpper(to: below)
      return Tape(x: x, stem: stemTape, first: first, blocks: tapes, starts: starts, features: features)
    }
    // Nothing is kept: maps alternate between two places.
    return pass.context.scratch { arena in
      let size = largestMap(x)
      let places = (arena.tensor(n: 1, c: size), arena.tensor(n: 1, c: size))
      var even = true
      func place(_ n: Int, _ h: Int, _ w: Int, _ c: Int) -> Tensor {
        even.toggle()
        return Tensor((even ? places.0 : places.1).data, n: n, h: h, w: w, c: c)
      }
      let first = place(x.n, shape.h, shape.w, shape.c)
      let stemTape = stem.forward(x, into: first, pass)
      var y = first
      for block in blocks {
        let shape = block.output(y)
        let into = place(x.n, shape.h, shape.w, shape.c)
        pass.context.scratch { _ in _ = block.forward(y, into: into, pass) }
        y = into
      }
      AveragePool.forward(y, into: features, pass.context)
      return Tape(x: x, stem: stemTape, first: first, blocks: tapes, starts: nil, features: features)
    }
  }

  /// Floats of the largest map between blocks.
  private func largestMap(_ x: Tensor) -> Int {
    var (h, w, c) = stem.output(x)
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
    let arena = pass.arena
    let start = arena.mark()
    var y = output(blocks.count - 1, tape, pass)
    var dy = arena.brief(like: y)
    var belowMade = start
    AveragePool.backward(d, dx: dy, pass.context)
    for (i, block) in blocks.enumerated().reversed() {
      // Where the input is the residual, its gradient takes the place of the output's.
      let dx = block.shortcut == nil ? dy : arena.brief(like: i == 0 ? tape.first : tape.blocks[i - 1].last.z)
      let below = arena.mark()
      let x = output(i - 1, tape, pass)
      pass.context.scratch { _ in block.backward(dy, tape.blocks[i], x: x, y: y, dx: dx, pass) }
      if !block.keepsOutput, i < blocks.count - 1 { arena.releaseUpper(to: belowMade) }
      dy = dx
      y = x
      belowMade = below
      if consuming { arena.releaseLower(to: tape.starts![i]) }
      pass.reducer?.ready(from: block.firstParameter)
    }
    stem.backward(dy, tape.stem, x: tape.x, pass)
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
