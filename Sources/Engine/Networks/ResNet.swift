/// Residual networks. He et al. 2015, arXiv:1512.03385, in torchvision's form (v1.5: the bottleneck's stride is on its
/// 3×3 convolution); names and layouts of parameters are torchvision's. ResNet-D and selective kernels, which
/// torchvision does not have, come with names of our own: `stem.*`, `downsample.conv`, `downsample.bn` and `sk.*`.
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
    /// The squeeze ratio of selective kernels, r in `SelectiveKernels`; 0 for bottlenecks of one stream.
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
    /// Where it trains.
    let stem: ResNetStem.Tape?
    /// The output of the last unit that is not recorded, or of the stem.
    let below: Tensor?
    /// Those that are recorded.
    let blocks: UnsafeMutableBufferPointer<ResidualBlock.Tape>
    /// Where each block's tape begins on the arena's lower stack.
    let starts: UnsafeMutableBufferPointer<Arena.Mark>?
    /// (N, 1, 1, D), where it was asked for.
    let features: Tensor?
    /// The maps that were asked for.
    let maps: UnsafeMutableBufferPointer<Tensor?>
  }

  package let options: Options
  let stem: ResNetStem
  let blocks: [ResidualBlock]
  /// What can be tapped: the outputs of the stem and of the four stages.
  let maps: [(name: String, channels: Int)]
  /// Units are the stem, 0, and the blocks, from 1 on. By map: the unit that it comes out of.
  private let unitOfMap: [Int]
  /// By unit: the map that it gives.
  private let mapOfUnit: [Int?]
  /// The first unit that trains; nil where none does.
  private let lowest: Int?
  /// Whether training moves running statistics.
  private let movesStatistics: Bool

  package init(
    _ options: Options, _ part: PartName, _ parameters: inout ParameterLayout, _ statistics: inout ParameterLayout
  ) {
    self.options = options
    var builder = ResNetBuilder(options: options, parameters: parameters, statistics: statistics, part: part)
    let planes = options.planes
    stem = builder.stem()
    var blocks: [ResidualBlock] = []
    var maps = [(name: "stem", channels: planes)]
    var unitOfMap = [0]
    var inputs = planes
    for (stage, count) in options.depth.blocks.enumerated() {
      for i in 0..<count {
        let block = builder.block(
          "layer\(stage + 1).\(i)", inputs: inputs, planes: planes << stage, stride: stage > 0 && i == 0 ? 2 : 1,
          keepsOutput: i % 2 == 0)
        blocks.append(block)
        inputs = (planes << stage) * options.depth.expansion
      }
      maps.append((name: "layer\(stage + 1)", channels: inputs))
      unitOfMap.append(blocks.count)
    }
    self.blocks = blocks
    self.maps = maps
    self.unitOfMap = unitOfMap
    mapOfUnit = (0...blocks.count).map { unitOfMap.firstIndex(of: $0) }
    parameters = builder.parameters
    statistics = builder.statistics
    movesStatistics = statistics.entries(of: part).contains(where: \.trains)
    lowest = parameters.entries(of: part).first(where: \.trains).map { trained in
      1 + (blocks.lastIndex { $0.firstParameter <= trained.slice.offset } ?? -1)
    }
  }

  /// Whether anything trains that a map depends on, or the features where the index is the maps' count.
  func trains(below index: Int) -> Bool {
    guard let lowest else { return false }
    return index == maps.count || lowest <= unitOfMap[index]
  }

  // MARK: Forward

  /// - Parameters:
  ///   - x: (N, H, W, C) images.
  ///   - wanted: which maps are kept, in their order; then whether the features are asked for. Blocks behind what is
  ///     wanted are left out.
  /// - Returns: what was asked for, and what backward needs where the mode records and something trains.
  func forward(_ x: Tensor, wanted: UnsafeMutableBufferPointer<Bool>, _ pass: Pass) -> Tape {
    precondition(x.c == options.channels, "images of \(x.c) channels for an encoder of \(options.channels)")
    let blocks = blocks.prefix(lastUnit(of: wanted))
    let kept = pass.arena.array(of: Tensor?.self, count: maps.count)
    kept.update(repeating: nil)
    let features = wanted[maps.count] ? pass.arena.tensor(n: x.n, c: options.features) : nil
    makeMaps(x, wanted, into: kept, pass)
    if pass.mode.records, let lowest, lowest <= blocks.count {
      return record(x, blocks, from: lowest, maps: kept, features, pass)
    }
    return pass.context.scratch { arena in
      let last = blocks.count
      let y = mapOfUnit[last].flatMap { kept[$0] } ?? makeOutput(of: last, x, pass)
      run(x, through: last, maps: kept, into: y, pass.withoutRecord)
      if let features { AveragePool.forward(y, into: features, pass.context) }
      let none = arena.array(of: ResidualBlock.Tape.self, count: 0)
      return Tape(x: x, stem: nil, below: nil, blocks: none, starts: nil, features: features, maps: kept)
    }
  }

  /// The last unit that is needed for what is wanted, or that a gradient comes out of.
  private func lastUnit(of wanted: UnsafeMutableBufferPointer<Bool>) -> Int {
    if wanted[maps.count] { return blocks.count }
    return unitOfMap[wanted.lastIndex(of: true)!]
  }

  /// Forward that keeps what backward needs of the units from the lowest that trains.
  private func record(
    _ x: Tensor, _ blocks: ArraySlice<ResidualBlock>, from lowest: Int, maps: UnsafeMutableBufferPointer<Tensor?>,
    _ features: Tensor?, _ pass: Pass
  ) -> Tape {
    let arena = pass.arena
    let tapes = arena.array(of: ResidualBlock.Tape.self, count: self.blocks.count)
    let last = max(0, lowest - 1)
    let first = mapOfUnit[last].flatMap { maps[$0] } ?? makeOutput(of: last, x, pass)
    var stemTape: ResNetStem.Tape?
    if lowest == 0 {
      stemTape = stem.forward(x, into: first, pass)
    } else {
      run(x, through: last, maps: maps, into: first, pass.withoutRecord)
    }
    let starts = arena.array(of: Arena.Mark.self, count: self.blocks.count)
    let below = arena.mark()
    var y = first
    for (i, block) in blocks.enumerated().dropFirst(last) {
      let map = mapOfUnit[i + 1].flatMap { maps[$0] }
      let keeps = block.keepsOutput || map != nil
      let shape = block.output(y)
      starts[i] = arena.mark()
      let into =
        map
        ?? (keeps
          ? arena.tensor(n: x.n, h: shape.h, w: shape.w, c: shape.c)
          : arena.temporary(n: x.n, h: shape.h, w: shape.w, c: shape.c))
      let above = arena.mark()
      tapes[i] = block.forward(y, into: into, keeps: keeps, pass)
      arena.releaseUpper(to: keeps ? below : above)
      y = into
    }
    if let features { AveragePool.forward(y, into: features, pass.context) }
    arena.releaseUpper(to: below)
    return Tape(x: x, stem: stemTape, below: first, blocks: tapes, starts: starts, features: features, maps: maps)
  }

  // MARK: Forward without a record

  /// Floats of a map between blocks, for each thread: so much of it the third-level cache gives back twice as fast as
  /// memory.
  private static let mapFloats = 1 << 21

  /// Runs the units up to the last one, and keeps only its output and the maps that are wanted. Stage by stage: where
  /// the running statistics are used, images do not depend on one another, and a stage takes so few at a time that
  /// their maps stay in the cache.
  private func run(
    _ x: Tensor, through last: Int, maps: UnsafeMutableBufferPointer<Tensor?>, into y: Tensor, _ pass: Pass
  ) {
    pass.context.scratch { _ in
      var input = x
      var first = 0
      while first <= last {
        let end = min(last, unitOfMap.dropFirst().first { $0 >= first }!)
        let output = end == last ? y : mapOfUnit[end].flatMap { maps[$0] } ?? makeOutput(of: end, x, pass)
        runStage(first...end, input, maps: maps, into: output, pass)
        input = output
        first = end + 1
      }
    }
  }

  /// Runs neighbouring units. Maps between them alternate between two places.
  private func runStage(
    _ units: ClosedRange<Int>, _ x: Tensor, maps: UnsafeMutableBufferPointer<Tensor?>, into y: Tensor, _ pass: Pass
  ) {
    pass.context.scratch { arena in
      var largest = 0
      var shape = (h: x.h, w: x.w, c: x.c)
      for unit in units {
        shape = output(of: unit, Tensor(x.data, n: 1, h: shape.h, w: shape.w, c: shape.c))
        largest = max(largest, shape.h * shape.w * shape.c)
      }
      let some = isByImage(pass) ? max(1, Self.mapFloats * pass.context.team.count / max(1, largest)) : x.n
      let size = min(some, x.n) * largest
      let places = (arena.tensor(n: 1, c: size), arena.tensor(n: 1, c: size))
      for index in 0..<max(1, pieces(x.n, of: max(1, some))) {
        let images = piece(index, of: some, in: 0..<x.n)
        var input = x.images(images)
        for unit in units {
          let shape = output(of: unit, input)
          let place = unit % 2 == 0 ? places.0 : places.1
          let output =
            unit == units.upperBound
            ? y.images(images)
            : mapOfUnit[unit].flatMap { maps[$0]?.images(images) }
              ?? Tensor(place.data, n: images.count, h: shape.h, w: shape.w, c: shape.c)
          pass.context.scratch { _ in
            if unit == 0 {
              _ = stem.forward(input, into: output, pass)
            } else {
              _ = blocks[unit - 1].forward(input, into: output, keeps: false, pass)
            }
          }
          input = output
        }
      }
    }
  }

  /// Whether no normalisation looks at other images.
  private func isByImage(_ pass: Pass) -> Bool {
    !pass.mode.usesBatchStatistics || !movesStatistics
  }

  private func output(of unit: Int, _ x: Tensor) -> (h: Int, w: Int, c: Int) {
    unit == 0 ? stem.output(x) : blocks[unit - 1].output(x)
  }

  /// Memory for the maps that are wanted.
  private func makeMaps(
    _ x: Tensor, _ wanted: UnsafeMutableBufferPointer<Bool>, into maps: UnsafeMutableBufferPointer<Tensor?>,
    _ pass: Pass
  ) {
    for (map, unit) in unitOfMap.enumerated() where wanted[map] { maps[map] = makeOutput(of: unit, x, pass) }
  }

  /// Memory for the output of a unit, for images x.
  private func makeOutput(of last: Int, _ x: Tensor, _ pass: Pass) -> Tensor {
    var shape = (h: x.h, w: x.w, c: x.c)
    for unit in 0...last { shape = output(of: unit, Tensor(x.data, n: 1, h: shape.h, w: shape.w, c: shape.c)) }
    return pass.arena.tensor(n: x.n, h: shape.h, w: shape.w, c: shape.c)
  }

  // MARK: Backward

  /// Adds to the gradients of all parameters that train, and ends at the first unit that does.
  /// - Parameters:
  ///   - gradients: of the maps, in their order, then of the features, where there are any; overwritten on the way.
  ///   - consuming: whether blocks that are done with are taken off the arena's lower stack, which ends with the tape.
  func backward(
    _ gradients: UnsafeMutableBufferPointer<Tensor?>, _ tape: Tape, consuming: Bool, _ pass: Pass
  ) {
    guard let lowest, let last = gradients.lastIndex(where: { $0 != nil }), trains(below: last) else { return }
    let arena = pass.arena
    let start = arena.mark()
    let top = last == maps.count ? blocks.count : unitOfMap[last]
    var y = output(of: top, tape, pass)
    var dy = gradient(of: y, gradients, pass)
    var belowMade = start
    for unit in (max(1, lowest)..<max(1, top + 1)).reversed() {
      let i = unit - 1
      let block = blocks[i]
      var dx: Tensor?
      if unit > lowest {
        // If the input is the residual, its gradient overwrites the output's.
        dx = block.shortcut == nil ? dy : arena.temporary(like: shape(of: unit - 1, tape))
      }
      let below = arena.mark()
      let x = output(of: unit - 1, tape, pass)
      pass.context.scratch { _ in block.backward(dy, tape.blocks[i], x: x, y: y, dx: dx, pass) }
      if tape.blocks[i].y == nil, unit < top { arena.releaseUpper(to: belowMade) }
      if let dx {
        if let map = mapOfUnit[unit - 1], let further = gradients[map] { pass.context.add(further, to: dx) }
        dy = dx
      }
      y = x
      belowMade = below
      if consuming { arena.releaseLower(to: tape.starts![i]) }
      pass.reducer?.ready(from: block.firstParameter)
    }
    if lowest == 0, let stemTape = tape.stem { stem.backward(dy, stemTape, x: tape.x, pass) }
    arena.releaseUpper(to: start)
  }

  /// The gradient of the last output that has one.
  private func gradient(of y: Tensor, _ gradients: UnsafeMutableBufferPointer<Tensor?>, _ pass: Pass) -> Tensor {
    let map = maps.count - 1
    guard let d = gradients[maps.count] else { return gradients.last { $0 != nil }!! }
    let dy = pass.arena.temporary(like: y)
    AveragePool.backward(d, dx: dy, pass.context)
    if let further = gradients[map] { pass.context.add(further, to: dy) }
    return dy
  }

  /// A tensor of the shape of a unit's output.
  private func shape(of unit: Int, _ tape: Tape) -> Tensor {
    unit <= lowestInput ? tape.below! : tape.blocks[unit - 1].last.z
  }

  /// The unit whose output is the input of the lowest one that is recorded, or the stem.
  private var lowestInput: Int { max(0, (lowest ?? 0) - 1) }

  /// The output of a unit: as it was kept, or recomputed on the upper stack.
  private func output(of unit: Int, _ tape: Tape, _ pass: Pass) -> Tensor {
    if unit <= lowestInput { return tape.below! }
    let i = unit - 1
    if let y = tape.blocks[i].y { return y }
    let y = pass.arena.temporary(like: tape.blocks[i].last.z)
    blocks[i].recompute(tape.blocks[i], x: output(ofKept: unit - 1, tape), into: y, pass)
    return y
  }

  /// The output of a unit that was kept.
  private func output(ofKept unit: Int, _ tape: Tape) -> Tensor {
    unit <= lowestInput ? tape.below! : tape.blocks[unit - 1].y!
  }
}

extension Network {
  /// A ResNet with one head, called `head`.
  package init(_ options: ResNet.Options, head layers: [Head.Layer] = [], rules: [Rule] = []) {
    self.init(.resnet(options), head: layers, rules: rules)
  }
}
