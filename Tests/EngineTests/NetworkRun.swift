import Engine

/// A network with its state, gradients and context.
struct NetworkRun {
  let network: Network
  let context: Context
  let trained: Trained
  let x: Tensor

  init(
    _ network: Network, _ optimizer: any Optimizer = SGD(), images: Int = 5, size: Int = 14, seed: UInt64 = 1,
    threads: Int = 1,
    arena: Arena = Arena(reserving: 1 << 28)
  ) {
    self.network = network
    context = Context(threads: threads, arena: arena)
    trained = Trained("toy", network, optimizer, context)
    trained.state.randomise(seed: seed)
    x = context.arena.normal(n: images, h: size, w: size, c: network.encoder.options.channels, "x")
  }

  func pass(_ mode: Mode = .train) -> Pass {
    Pass(
      context, trained.state, mode, BatchGroups(images: x.n, in: context.arena), gradients: trained.gradients,
      reducer: mode.records ? trained.reducer : nil)
  }

  /// Runs forward to the taps, and backward from gradients of keyed noise.
  func step(_ taps: [Network.Tap], _ mode: Mode = .train) {
    let pass = pass(mode)
    let gradients = makeGradients(taps)
    let tape = network.forward(x, to: taps, pass)
    for (tap, d) in zip(taps, gradients) { tape.set(d, at: tap) }
    network.backward(tape, pass)
    if mode.records { trained.reducer.finish() }
  }

  /// Allocates the gradients below the tape on the arena, so that backward can release the tape.
  private func makeGradients(_ taps: [Network.Tap]) -> [Tensor] {
    let mark = context.arena.mark()
    let other = NetworkState(network.parameters, network.statistics)
    let groups = BatchGroups(images: x.n, in: context.arena)
    let tape = network.forward(x, to: taps, Pass(context, other, .inference, groups))
    let shapes = taps.map { tape[$0].shape }
    context.arena.release(to: mark)
    return zip(taps, shapes).map { tap, shape in
      context.arena.normal(n: shape.0, h: shape.1, w: shape.2, c: shape.3, "gradient at \(tap)")
    }
  }

  var gradients: [String: [Double]] {
    network.parameters.entries.reduce(into: [:]) { $0[$1.name] = trained.gradients.values($1.slice) }
  }
}
