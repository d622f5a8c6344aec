import Engine
import Testing

/// Small versions of methods that do not exist yet. They need only networks and a loss from the engine.
@Suite struct ToyTests {
  private let context = Context(arena: Arena(reserving: 1 << 28))
  private static let options = ImageEncoder.Options.resnet(.init(.resnet18, width: 1 / 16, stem: .small))
  private static let images = 12

  /// Losses of SGD steps on the same images.
  /// - body: gets the images, (12, 16, 16, 3), and their one BN group, and returns the loss.
  private func losses(_ trained: [Trained], _ body: (_ x: Tensor, _ groups: BatchGroups) -> Double) -> [Double] {
    defer { withExtendedLifetime(context) {} }
    for network in trained { network.state.initialise(seed: 3) }
    return (0..<30).map { step in
      for network in trained { network.gradients.zero() }
      let loss = context.scratch { arena in
        body(arena.normal(n: Self.images, h: 16, w: 16, c: 3, "x"), BatchGroups(images: Self.images, in: arena))
      }
      for network in trained {
        network.reducer.finish()
        network.update(SGD(decay: 0), step: step, rate: 0.05, context)
      }
      return loss
    }
  }

  /// The mean of (y − target)²; y becomes its gradient.
  private func squaredError(_ y: Tensor, _ target: Tensor) -> Double {
    var sum = 0.0
    for i in 0..<y.count {
      let difference = y.data[i] - target.data[i]
      sum += Double(difference) * Double(difference)
      y.data[i] = 2 * difference / Float(y.count)
    }
    return sum / Double(y.count)
  }

  private func expectLearning(_ losses: [Double], to share: Double) {
    #expect(losses.last! < share * losses[0], "\(losses)")
  }

  /// A student learns the features of a deeper teacher, which runs in inference mode and does not change.
  @Test func teacherBesideAStudent() {
    let teacher = Network(.resnet(.init(.resnet34, width: 1 / 16, stem: .small)))
    let state = teacher.makeState()
    state.randomise(seed: 5)
    let before = (state.parameters.bits, state.statistics.bits)
    let head = [Head.Layer(teacher.encoder.options.features, bias: true)]
    let student = Trained("student", Network(Self.options, head: head), context)
    let losses = losses([student]) { x, groups in
      let targets = teacher.forward(x, tap: .features, Pass(context, state, .inference, groups)).output
      let pass = student.pass(context, groups)
      let tape = student.network.forward(x, pass)
      let y = tape.output
      let loss = squaredError(y, targets)
      student.network.backward(y, tape, pass)
      return loss
    }
    expectLearning(losses, to: 0.5)
    #expect(state.parameters.bits == before.0 && state.statistics.bits == before.1)
  }

  /// Two encoders, one of one channel of the images and one of the other two, learn each other's embeddings.
  @Test func twoEncodersOfOtherChannels() {
    var options = (Self.options, Self.options)
    options.0.channels = 1
    options.1.channels = 2
    let first = Trained("first", Network(options.0, head: [.init(16, bias: true)]), context)
    let second = Trained("second", Network(options.1, head: [.init(16, bias: true)]), context)
    #expect(first.network.parameters.entries[0].shape[2] == 1 && second.network.parameters.entries[0].shape[2] == 2)
    let contrast = BatchInfoNCE(temperature: 0.2)
    let losses = losses([first, second]) { x, groups in
      let passes = (first.pass(context, groups), second.pass(context, groups))
      let tapes = (
        first.network.forward(channels(0..<1, of: x), passes.0),
        second.network.forward(channels(1..<3, of: x), passes.1)
      )
      let q = tapes.0.output
      let k = tapes.1.output
      let unit = UnitRows(q, in: context.arena, context)
      let loss = contrast.apply(q, unit, keys: k, shares: [Self.images], context).loss
      second.network.backward(k, tapes.1, passes.1)
      first.network.backward(q, tapes.0, passes.0)
      return loss
    }
    expectLearning(losses, to: 0.5)
  }

  private func channels(_ range: Range<Int>, of x: Tensor) -> Tensor {
    let part = context.arena.tensor(n: x.n, h: x.h, w: x.w, c: range.count)
    for row in 0..<x.rows {
      for (i, channel) in range.enumerated() { part.data[row * range.count + i] = x.data[row * x.c + channel] }
    }
    return part
  }

  /// A head on a feature map of a frozen encoder learns the colour of every fourth pixel, at its own rate.
  @Test func headOnAMapOfAFrozenEncoder() {
    let head = HeadPlan(
      "dense", from: .tap(.map("layer2")),
      [.init(16, bias: false, .scaleAndShift, relu: true, kernel: 3), .init(3, bias: true)])
    let rules = [Rule(.encoder, trains: false), Rule("dense", rate: 4)]
    let trained = Trained("encoder", Network(Self.options, heads: [head], rules: rules), context)
    let losses = losses([trained]) { x, groups in
      let pass = trained.pass(context, groups)
      let tape = trained.network.forward(x, tap: .head("dense"), pass)
      let y = tape.output
      let targets = context.arena.tensor(like: y)
      for row in 0..<y.rows {
        let (image, line, column) = (row / 64, row % 64 / 8, row % 8)
        let from = x.data + ((image * 16 + 2 * line) * 16 + 2 * column) * 3
        for channel in 0..<3 { targets.data[row * 3 + channel] = from[channel] }
      }
      let loss = squaredError(y, targets)
      trained.network.backward(y, tape, pass)
      return loss
    }
    expectLearning(losses, to: 0.9)
    let fresh = trained.network.makeState()
    fresh.initialise(seed: 3)
    for entry in trained.network.parameters.entries {
      let isSame = trained.state.parameters.values(entry.slice) == fresh.parameters.values(entry.slice)
      #expect(isSame == PartName.encoder.covers(entry.name), "\(entry.name)")
    }
    for entry in trained.network.statistics.entries(of: .encoder) {
      #expect(trained.state.statistics.values(entry.slice) == fresh.statistics.values(entry.slice), "\(entry.name)")
    }
  }
}
