/// An encoder with heads: what every method trains. Encoder and heads are its parts, by name.
package struct Network {
  /// A place in the network whose output can be had, and where a gradient can come in.
  package enum Tap: Sendable, Equatable {
    /// A feature map of the encoder, (N, H, W, C): of a ResNet `stem`, or `layer1` to `layer4`.
    case map(String)
    /// The encoder's output, (N, D).
    case features
    /// The output of a head, or of so many of its layers.
    case head(PartName = .head, layers: Int? = nil)

    /// The output of the head called `head`.
    package static let embedding = Tap.head(.head, layers: nil)
  }

  /// A head and where it stands. Outputs have places, which are numbered: the encoder's maps, its features, and then
  /// every layer of every head.
  private struct Branch {
    let head: Head
    /// The place of its input; nil where the method brings it.
    let source: Int?
    /// The place of its first layer's output.
    let first: Int

    /// The place of the output of so many layers.
    func place(layers: Int) -> Int { first + layers - 1 }
  }

  package let encoder: ImageEncoder
  private let branches: [Branch]
  package let parameters: ParameterLayout
  package let statistics: ParameterLayout
  /// By place: whether the output depends on anything that trains.
  private let trains: [Bool]
  /// By place: channels of the output.
  private let channels: [Int]
  /// The place of the features; those before it are the maps'.
  private let features: Int

  /// - Parameters:
  ///   - plans: in the order of the slab. A head can begin at a tap of one before it.
  ///   - rules: what trains, and how fast; without rules everything trains at the same rate. A rule may be for a part
  ///     that this network has not: a method may have several networks.
  package init(_ options: ImageEncoder.Options, heads plans: [HeadPlan], rules: [Rule] = []) {
    var parameters = ParameterLayout(rules: rules)
    var statistics = ParameterLayout(rules: rules)
    let encoder = ImageEncoder(options, .encoder, &parameters, &statistics)
    var branches: [Branch] = []
    var channels = encoder.maps.map(\.channels) + [options.features]
    var trains = channels.indices.map { encoder.trains(below: $0) }
    for plan in plans {
      let source: Int? = if case .tap(let tap) = plan.source { Self.place(of: tap, encoder, branches) } else { nil }
      let inputs = if case .method(let count) = plan.source { count } else { channels[source!] }
      let head = Head(plan.name, plan.layers, inputs: inputs, numbered: plan.numbered, &parameters, &statistics)
      branches.append(Branch(head: head, source: source, first: channels.count))
      channels += plan.layers.map(\.outputs)
      trains += plan.layers.indices.map { layer in
        source.map { trains[$0] } == true || head.trains(layers: layer + 1)
      }
    }
    self.encoder = encoder
    self.branches = branches
    self.parameters = parameters
    self.statistics = statistics
    self.trains = trains
    self.channels = channels
    features = encoder.maps.count
  }

  /// An encoder with one head, called `head`.
  package init(_ options: ImageEncoder.Options, head layers: [Head.Layer] = [], rules: [Rule] = []) {
    self.init(options, heads: [HeadPlan(.head, layers)], rules: rules)
  }

  /// Whether a rule is for any of its parameters or statistics.
  package func has(_ rule: Rule) -> Bool {
    (parameters.entries + statistics.entries).contains { rule.covers($0.name, $0.kind) }
  }

  package func makeState() -> NetworkState { NetworkState(parameters, statistics) }

  package func head(_ name: PartName) -> Head { Self.branch(name, branches).head }

  private static func branch(_ name: PartName, _ branches: [Branch]) -> Branch {
    guard let branch = branches.first(where: { $0.head.name == name }) else {
      preconditionFailure("there is no head `\(name)`; there are \(branches.map(\.head.name))")
    }
    return branch
  }

  private static func place(of tap: Tap, _ encoder: ImageEncoder, _ branches: [Branch]) -> Int {
    switch tap {
    case .map(let name):
      guard let place = encoder.maps.firstIndex(where: { $0.name == name }) else {
        preconditionFailure("the encoder has no map `\(name)`; it has \(encoder.maps.map(\.name))")
      }
      return place
    case .features: return encoder.maps.count
    case .head(let name, let layers):
      let branch = branch(name, branches)
      let layers = layers ?? branch.head.count
      precondition(layers <= branch.head.count, "head `\(name)` has \(branch.head.count) layers, not \(layers)")
      guard let source = branch.source else {
        preconditionFailure("the method runs head `\(name)` by itself; it cannot be tapped")
      }
      return layers == 0 ? source : branch.place(layers: layers)
    }
  }

  private func place(of tap: Tap) -> Int { Self.place(of: tap, encoder, branches) }

  /// Channels of the output at a tap.
  package func channels(at tap: Tap) -> Int { channels[place(of: tap)] }

  // MARK: Forward

  /// What backward needs, and the outputs that were asked for.
  package struct Tape {
    fileprivate let network: Network
    fileprivate let encoder: ImageEncoder.Tape
    /// By head: nil where it was not needed.
    fileprivate let heads: UnsafeMutableBufferPointer<Head.Tape?>
    /// By place: the gradients that backward starts from.
    fileprivate let gradients: UnsafeMutableBufferPointer<Tensor?>
    /// The tap that was asked for, or the first of several.
    fileprivate let tap: Tap
    /// Where the tape ends in the arena.
    fileprivate var end: Arena.Mark

    /// (N, D)
    package var features: Tensor { self[.features] }
    /// The output at the tap that was asked for, or at the first of several; not normalised.
    package var output: Tensor { self[tap] }

    /// The output at a tap that was asked for, or that what was asked for depends on.
    package subscript(_ tap: Tap) -> Tensor {
      guard let output = network.output(at: network.place(of: tap), self) else {
        preconditionFailure("\(tap) was not asked for when the network ran")
      }
      return output
    }

    /// Sets the gradient of the output at a tap, for `backward` to start from, which overwrites it.
    package func set(_ gradient: Tensor, at tap: Tap) {
      precondition(gradient.hasShape(of: self[tap]), "a gradient of \(gradient.shape) for \(tap) of \(self[tap].shape)")
      gradients[network.place(of: tap)] = gradient
    }
  }

  /// Images in, the output at a tap out. One call serves queries, keys, teachers and evaluation.
  package func forward(_ x: Tensor, tap: Tap = .embedding, _ pass: Pass) -> Tape {
    let wanted = makeWanted(pass)
    wanted[place(of: tap)] = true
    return forward(x, wanted, tap, pass)
  }

  /// Images in, the outputs at several taps out. What none of them needs is not computed.
  package func forward(_ x: Tensor, to taps: [Tap], _ pass: Pass) -> Tape {
    let wanted = makeWanted(pass)
    for tap in taps { wanted[place(of: tap)] = true }
    return forward(x, wanted, taps[0], pass)
  }

  /// By place: whether the output is asked for.
  private func makeWanted(_ pass: Pass) -> UnsafeMutableBufferPointer<Bool> {
    let wanted = pass.arena.array(of: Bool.self, count: trains.count)
    wanted.update(repeating: false)
    return wanted
  }

  private func forward(_ x: Tensor, _ wanted: UnsafeMutableBufferPointer<Bool>, _ tap: Tap, _ pass: Pass) -> Tape {
    let arena = pass.arena
    for branch in branches.reversed() where layers(of: branch, wanted) > 0 { wanted[branch.source!] = true }
    // Below the encoder's tape, which backward releases while it still reads the gradients.
    let gradients = arena.array(of: Tensor?.self, count: trains.count)
    let heads = arena.array(of: Head.Tape?.self, count: branches.count)
    gradients.update(repeating: nil)
    heads.update(repeating: nil)
    let encoderTape = encoder.forward(x, wanted: UnsafeMutableBufferPointer(rebasing: wanted[...features]), pass)
    var tape = Tape(
      network: self, encoder: encoderTape, heads: heads, gradients: gradients, tap: tap, end: arena.mark())
    for (i, branch) in branches.enumerated() {
      let layers = layers(of: branch, wanted)
      guard layers > 0 else { continue }
      let input = output(at: branch.source!, tape)!
      tape.heads[i] = pass.context.part(.head) { branch.head.forward(input, layers: layers, pass) }
    }
    tape.end = arena.mark()
    return tape
  }

  /// How many layers of a head are needed.
  private func layers(of branch: Branch, _ wanted: UnsafeMutableBufferPointer<Bool>) -> Int {
    var layers = branch.head.count
    while layers > 0, !wanted[branch.place(layers: layers)] { layers -= 1 }
    return layers
  }

  /// The output at a place, where it was computed and kept.
  private func output(at place: Int, _ tape: Tape) -> Tensor? {
    if place < features { return tape.encoder.map(place) }
    if place == features { return tape.encoder.features }
    let index = branches.lastIndex { $0.first <= place && $0.head.count > 0 }!
    let layers = place - branches[index].first + 1
    guard let head = tape.heads[index], layers <= head.layers else { return nil }
    return head.output(layers: layers)
  }

  // MARK: Backward

  /// Adds to the gradients of all parameters that train, from the gradient of the output that was asked for.
  /// - d: overwritten on the way.
  package func backward(_ d: Tensor, _ tape: Tape, _ pass: Pass) {
    tape.set(d, at: tape.tap)
    backward(tape, pass)
  }

  /// Adds to the gradients of all parameters that train, from the gradients that the tape was given. It ends below the
  /// last layer that trains. Where the tape is the last thing on the arena's lower stack, it is taken off on the way:
  /// nothing of it can be read afterwards. Heads that the method runs by itself come before.
  package func backward(_ tape: Tape, _ pass: Pass) {
    let consuming = pass.arena.isLowerTop(tape.end)
    pass.context.scratch { _ in
      for i in branches.indices.reversed() {
        guard let head = tape.heads[i] else { continue }
        backward(branches[i], head, tape.gradients, input: output(at: branches[i].source!, tape)!, pass)
      }
      encoder.backward(
        UnsafeMutableBufferPointer(rebasing: tape.gradients[...features]), tape.encoder, consuming: consuming, pass)
    }
  }

  /// Backward through one head. The gradient of its input joins those of the tape.
  private func backward(
    _ branch: Branch, _ tape: Head.Tape, _ gradients: UnsafeMutableBufferPointer<Tensor?>, input: Tensor, _ pass: Pass
  ) {
    var layers = tape.layers
    while layers > 0, gradients[branch.place(layers: layers)] == nil { layers -= 1 }
    guard layers > 0, trains[branch.place(layers: layers)] else { return }
    let source = branch.source!
    let mark = pass.arena.mark()
    let dx = trains[source] ? pass.arena.temporary(like: input) : nil
    pass.context.scratch { _ in
      pass.context.part(.head) {
        branch.head.backward(from: layers, tape, dx: dx, pass) { gradients[branch.place(layers: $0)] }
      }
    }
    if let first = branch.head.firstParameter { pass.reducer?.ready(from: first) }
    guard let dx else { return }
    if let other = gradients[source] {
      pass.context.add(dx, to: other)
      pass.arena.releaseUpper(to: mark)
    } else {
      gradients[source] = dx
    }
  }
}
