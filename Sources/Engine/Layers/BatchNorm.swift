/// Batch normalisation over (N, H, W) of each BN group, fused with the residual sum and the ReLU that follow it.
/// Ioffe and Szegedy 2015, arXiv:1502.03167. Statistics are shared by ranks as (count, Σ(x−c), Σ(x−c)²) in Double, with
/// a shift c that is the same on all ranks: one all-reduce a layer and direction.
///
///     y = max(0, γ·(x − μ_g)/√(σ²_g + ε) + β + residual)
///
/// Running statistics are those of torch: r ← 0.9·r + 0.1·batch, the variance unbiased over the whole group. With
/// several groups they take the mean over the groups, as MoCo's SplitBatchNorm does; if every view is a batch of its
/// own, they move by one view after the other, as if the network were called once for each.
package struct BatchNorm {
  /// Weight of the new batch in the running statistics.
  package static let runningWeight = 0.1
  package static let epsilon = 1e-5

  package let name: String
  package let channels: Int
  /// (C); nil stands for a scale of 1 or a shift of 0.
  package let gamma: Slice?, beta: Slice?
  /// (C) each, in the statistics slab.
  package let mean: Slice, variance: Slice

  /// Whether γ or β trains.
  var trains: Bool { gamma?.trains == true || beta?.trains == true }

  /// Whether it takes the batch's statistics: by the pass, unless its running statistics are not to change.
  func usesBatchStatistics(_ pass: Pass) -> Bool { pass.mode.usesBatchStatistics && mean.trains }

  /// What backward needs besides the input, which the caller keeps; by group and channel, (G, C).
  package struct Tape: BitwiseCopyable {
    let mean: UnsafeMutablePointer<Float>
    /// 1/√(σ² + ε)
    let inverse: UnsafeMutablePointer<Float>
    /// Rows of every group, over all ranks.
    let count: UnsafeMutablePointer<Double>
  }

  package init(
    _ parameters: inout ParameterLayout, _ statistics: inout ParameterLayout, _ name: String, channels: Int,
    scale: Bool = true, shift: Bool = true, initialScale: Float = 1
  ) {
    self.name = name
    self.channels = channels
    gamma = scale ? parameters.add(name + ".weight", [channels], .scale, .constant(initialScale)) : nil
    beta = shift ? parameters.add(name + ".bias", [channels], .shift, .constant(0)) : nil
    mean = statistics.add(name + ".running_mean", [channels], .mean, .constant(0))
    variance = statistics.add(name + ".running_var", [channels], .variance, .constant(1))
  }

  // MARK: Forward

  /// - Parameters:
  ///   - x: (N, H, W, C), kept by the caller for backward.
  ///   - residual: added before the ReLU; the shape of x.
  ///   - y: overwritten; may be x itself where nothing is recorded.
  package func forward(_ x: Tensor, residual: Tensor? = nil, relu: Bool, into y: Tensor, _ pass: Pass) -> Tape {
    precondition(x.c == channels && y.hasShape(of: x), "\(name): \(x.shape) into \(y.shape), \(channels) channels")
    let tape = makeTape(pass)
    let maps = (usesBatchStatistics(pass) ? 3 : 2) + (residual == nil ? 0 : 1)
    pass.context.part(.normalisation, bytes: maps * x.bytes, layer: "\(channels) @ \(x.h) normalisation forward") {
      if usesBatchStatistics(pass) {
        measure(x, tape, pass)
      } else {
        useRunningStatistics(tape, pass)
      }
      apply(to: x, residual: residual, relu: relu, into: y, tape, pass)
    }
    pass.context.watch?.look(at: y, name)
    return tape
  }

  private func groupCount(_ pass: Pass) -> Int { usesBatchStatistics(pass) ? pass.groups.count : 1 }

  private func makeTape(_ pass: Pass) -> Tape {
    let groups = groupCount(pass)
    return Tape(
      mean: pass.arena.array(of: Float.self, count: groups * channels).baseAddress!,
      inverse: pass.arena.array(of: Float.self, count: groups * channels).baseAddress!,
      count: pass.arena.array(of: Double.self, count: groups).baseAddress!)
  }

  private func useRunningStatistics(_ tape: Tape, _ pass: Pass) {
    pass.context.run(1) { _, _ in
      let mean = pass.state.statistics[self.mean]
      let variance = pass.state.statistics[self.variance]
      tape.count[0] = 1
      for c in 0..<channels {
        tape.mean[c] = mean[c]
        tape.inverse[c] = Float(1 / (Double(variance[c]) + Self.epsilon).squareRoot())
      }
    }
  }

  /// Batch statistics of every group, and the running ones moved towards them.
  private func measure(_ x: Tensor, _ tape: Tape, _ pass: Pass) {
    let running = pass.state.statistics[mean]
    let runningVariance = pass.state.statistics[variance]
    pass.context.scratch { arena in
      let sums = sumsByGroup(images: x.n, acrossRanks: pass.groups.isShared, pass, arena) { image, into in
        Self.moments(x.data + image * x.rowsPerImage * channels, rows: x.rowsPerImage, channels, shift: running, into)
      }
      pass.context.run(1) { _, _ in
        let perBatch = pass.groups.count / pass.groups.batches
        let width = 2 * channels + 1
        let w = pass.runningWeight
        for c in 0..<channels {
          let shift = Double(running[c])
          for batch in 0..<pass.groups.batches {
            var present = 0.0  // groups with images: a part of a batch need not have all
            var meanOfGroups = 0.0
            var varianceOfGroups = 0.0
            for g in batch * perBatch..<(batch + 1) * perBatch where sums[g * width] > 0 {
              let n = sums[g * width] * Double(x.rowsPerImage)
              let first = sums[g * width + 1 + c] / n
              let second = sums[g * width + 1 + channels + c] / n
              let variance = max(0, second - first * first)
              tape.count[g] = n
              tape.mean[g * channels + c] = Float(shift + first)
              tape.inverse[g * channels + c] = Float(1 / (variance + Self.epsilon).squareRoot())
              present += 1
              meanOfGroups += shift + first
              varianceOfGroups += variance * (n > 1 ? n / (n - 1) : 1)
            }
            running[c] = Float((1 - w) * Double(running[c]) + w * meanOfGroups / present)
            runningVariance[c] = Float((1 - w) * Double(runningVariance[c]) + w * varianceOfGroups / present)
          }
        }
      }
    }
  }

  /// Recomputes y of `forward`, bit for bit.
  package func recompute(_ x: Tensor, residual: Tensor?, relu: Bool, into y: Tensor, _ tape: Tape, _ pass: Pass) {
    let maps = residual == nil ? 2 : 3
    pass.context.part(.normalisation, bytes: maps * x.bytes, layer: "\(channels) @ \(x.h) normalisation recompute") {
      apply(to: x, residual: residual, relu: relu, into: y, tape, pass)
    }
  }

  private func apply(
    to x: Tensor, residual: Tensor?, relu: Bool, into y: Tensor, _ tape: Tape, _ pass: Pass
  ) {
    let c = channels
    let rows = x.rowsPerImage
    let single = groupCount(pass) == 1
    pass.context.scratch { arena in
      let (scale, shift) = coefficients(tape, pass, arena)
      fromLast(x.n, pass) { image in
        let g = single ? 0 : Int(pass.groups.group[image])
        let start = image * rows * c
        Epilogue(
          mean: tape.mean + g * c, scale: scale + g * c, shift: shift, residual: residual.map { $0.data + start },
          floor: relu ? 0 : -.infinity
        ).apply(x.data + start, into: y.data + start, rows: rows, channels: c)
      }
    }
  }

  /// What a convolution applies to its own output, where the running statistics are used and nothing is recorded.
  /// - Returns: the epilogue, in the arena's memory, and a tape that nothing reads.
  func epilogue(residual: Tensor?, relu: Bool, _ pass: Pass) -> (Epilogue, Tape) {
    precondition(!usesBatchStatistics(pass), "\(name): its batch's statistics are not known before its input is")
    let tape = makeTape(pass)
    useRunningStatistics(tape, pass)
    let (scale, shift) = coefficients(tape, pass, pass.arena)
    let epilogue = Epilogue(
      mean: tape.mean, scale: scale, shift: shift, residual: residual.map { UnsafePointer($0.data) },
      floor: relu ? 0 : -.infinity)
    return (epilogue, tape)
  }

  /// γ·inverse by group and channel, and β by channel.
  private func coefficients(
    _ tape: Tape, _ pass: Pass, _ arena: Arena
  ) -> (scale: UnsafeMutablePointer<Float>, shift: UnsafeMutablePointer<Float>) {
    let c = channels
    let groups = groupCount(pass)
    let gamma = gamma.map { pass.state.parameters[$0] }
    let beta = beta.map { pass.state.parameters[$0] }
    let scale = arena.array(of: Float.self, count: groups * c).baseAddress!
    let shift = arena.array(of: Float.self, count: c).baseAddress!
    pass.context.run(1) { _, _ in
      for g in 0..<groups { for i in 0..<c { scale[g * c + i] = (gamma?[i] ?? 1) * tape.inverse[g * c + i] } }
      for i in 0..<c { shift[i] = beta?[i] ?? 0 }
    }
    return (scale, shift)
  }

  // MARK: Backward

  /// Adds to dγ and dβ where they train.
  /// - Parameters:
  ///   - dy: gradient of the output; where y is given, on return masked by the ReLU, and so the gradient of the
  ///     residual.
  ///   - y: the output, where a residual was added before the ReLU.
  ///   - relu: whether a ReLU followed. Without y its mask is recomputed from x.
  ///   - x: the input; on return it holds its own gradient.
  package func backward(_ dy: Tensor, y: Tensor? = nil, relu: Bool, x: Tensor, _ tape: Tape, _ pass: Pass) {
    precondition(dy.hasShape(of: x), "\(name): gradient \(dy.shape) of \(x.shape)")
    let maps = y == nil ? 5 : 7
    pass.context.part(.normalisation, bytes: maps * x.bytes, layer: "\(channels) @ \(x.h) normalisation backward") {
      pass.context.scratch { arena in
        if !relu {
          differentiate(dy, x: x, mask: NoMask(), tape, pass, arena)
        } else if let y {
          differentiate(dy, x: x, mask: KeptMask(y: y.data), tape, pass, arena)
        } else {
          let (scale, shift) = coefficients(tape, pass, arena)
          differentiate(dy, x: x, mask: MadeMask(scale: scale, shift: shift), tape, pass, arena)
        }
      }
    }
    pass.context.watch?.look(at: x, name + " (gradient)")
  }

  private func differentiate(
    _ dy: Tensor, x: Tensor, mask: some ReLUMask, _ tape: Tape, _ pass: Pass, _ arena: Arena
  ) {
    let c = channels
    let rows = x.rowsPerImage
    let groups = groupCount(pass)
    let width = 2 * c + 1
    let gamma = gamma.map { pass.state.parameters[$0] }
    let local = arena.array(of: Double.self, count: 2 * c).baseAddress!
    let sums = sumsByGroup(
      images: x.n, acrossRanks: pass.groups.spansRanks, keeping: local, pass, arena
    ) { image, into in
      let start = image * rows * c
      let g = groups == 1 ? 0 : Int(pass.groups.group[image])
      Self.moments(
        gradient: dy.data + start, x: x.data + start, rows: rows, c, mean: tape.mean + g * c,
        inverse: tape.inverse + g * c, mask.moved(by: start, group: g * c), into)
    }
    // Per group and channel: dx = a·(dy − b − (x − μ)·k)
    let a = arena.array(of: Float.self, count: groups * c).baseAddress!
    let b = arena.array(of: Float.self, count: groups * c).baseAddress!
    let k = arena.array(of: Float.self, count: groups * c).baseAddress!
    pass.context.run(1) { _, _ in
      if let beta, beta.trains { Self.add(local, to: pass.gradients![beta], c) }
      if let gamma = self.gamma, gamma.trains { Self.add(local + c, to: pass.gradients![gamma], c) }
      for g in 0..<groups {
        let measured = usesBatchStatistics(pass) && sums[g * width] > 0
        for i in 0..<c {
          let inverse = Double(tape.inverse[g * c + i])
          let at = g * c + i
          a[at] = Float(Double(gamma?[i] ?? 1) * inverse)
          b[at] = measured ? Float(sums[g * width + 1 + i] / tape.count[g]) : 0
          k[at] = measured ? Float(sums[g * width + 1 + c + i] / tape.count[g] * inverse) : 0
        }
      }
    }
    fromLast(x.n, pass) { image in
      let start = image * rows * c
      let g = groups == 1 ? 0 : Int(pass.groups.group[image])
      Self.gradient(
        dy.data + start, x: x.data + start, rows: rows, c, mean: tape.mean + g * c, a: a + g * c, b: b + g * c,
        k: k + g * c, mask.moved(by: start, group: g * c))
    }
  }

  /// Runs `body` for the images from the last to the first: the pass before has read the last ones last, so they are
  /// still in the cache, and the next convolution reads the first ones first.
  private func fromLast(_ images: Int, _ pass: Pass, _ body: (_ image: Int) -> Void) {
    pass.context.run(images) { index, _ in body(images - 1 - index) }
  }

  private static func add(_ sums: UnsafePointer<Double>, to gradient: UnsafeMutablePointer<Float>, _ count: Int) {
    for i in 0..<count { gradient[i] += Float(sums[i]) }
  }

  /// Sums 2·C values over the images of each group: blocks of images in parallel, then all blocks in order, then ranks.
  /// - Parameters:
  ///   - acrossRanks: whether to sum over ranks.
  ///   - keeping: overwritten by this rank's sums over all its groups, (2C).
  ///   - add: adds one image's 2·C values.
  /// - Returns: per group: images, then 2·C sums.
  private func sumsByGroup(
    images: Int, acrossRanks: Bool, keeping local: UnsafeMutablePointer<Double>? = nil, _ pass: Pass, _ arena: Arena,
    _ add: (_ image: Int, _ into: UnsafeMutablePointer<Double>) -> Void
  ) -> UnsafeMutablePointer<Double> {
    let groups = groupCount(pass)
    let c2 = 2 * channels
    let width = c2 + 1
    let perBlock = groups == 1 ? 4 : 1
    let blocks = (images + perBlock - 1) / perBlock
    let sums = arena.array(of: Double.self, count: groups * width)
    let partial = arena.array(of: Double.self, count: max(1, blocks * c2)).baseAddress!
    pass.context.run(blocks) { block, _ in
      let into = partial + block * c2
      into.update(repeating: 0, count: c2)
      for image in block * perBlock..<min(images, (block + 1) * perBlock) { add(image, into) }
    }
    pass.context.run(1) { _, _ in
      sums.update(repeating: 0)
      local?.update(repeating: 0, count: c2)
      for block in 0..<blocks {
        let g = groups == 1 ? 0 : Int(pass.groups.group[block])
        let from = partial + block * c2
        let into = sums.baseAddress! + g * width
        into[0] += Double(min(images, (block + 1) * perBlock) - block * perBlock)
        for i in 0..<c2 { into[1 + i] += from[i] }
        if let local { for i in 0..<c2 { local[i] += from[i] } }
      }
    }
    if usesBatchStatistics(pass) && acrossRanks {
      pass.context.allReduce(sums, on: .statistics, .batchStatistics.of(name))
    }
    return sums.baseAddress!
  }
}
