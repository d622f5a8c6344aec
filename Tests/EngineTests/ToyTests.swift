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
