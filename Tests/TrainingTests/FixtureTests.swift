import Engine
import Foundation
import Shards
import Testing
import Training

/// Compares training runs with PyTorch's, one for each file in `Fixtures`.
@Suite struct FixtureTests {
  @Test func thereAreCasesOfEveryKind() throws {
    let kinds = try Set(FixtureCase.all.map { try FixtureCase($0).header.kind })
    #expect(kinds == Set(Methods.all.map { $0.name } + ["encoder"]))
  }

  @Test(arguments: FixtureCase.all) func agreesWithPyTorch(_ path: String) throws {
    let fixture = try FixtureCase(path)
    let outcome = try fixture.header.kind == "encoder" ? encode(fixture) : train(fixture)
    let failures = try fixture.failures(outcome)
    #expect(
      failures.isEmpty,
      "\(failures.count) of \(fixture.header.bounds.count) in \(path): \(failures.prefix(6).joined(separator: "; "))")
  }

  /// BYOL with its two views as two kinds, as for the paper's different augmentations, gives the same run.
  @Test(arguments: FixtureCase.all.filter { $0.contains("/byol-") }) func viewsOfTwoKindsAgreeToo(_ path: String) throws
  {
    let fixture = try FixtureCase(path)
    let failures = try fixture.failures(train(fixture, apart: true))
    #expect(
      failures.isEmpty,
      "\(failures.count) of \(fixture.header.bounds.count) in \(path): \(failures.prefix(6).joined(separator: "; "))")
  }

  /// By default SwAV's head runs on all crops at once. By kinds its BN has other statistics, updated twice per step,
  /// and all gradients of the head differ.
  @Test func swavWithAHeadByKindsIsAnotherRun() throws {
    let fixture = try FixtureCase(FixtureCase.all.first { $0.contains("/swav-crops") }!)
    var method = try #require(try fixture.method as? SwAV)
    method.headBatch = .kind
    let failures = try fixture.failures(train(fixture, method))
    for name in ["step.1.loss", "step.1.gradient.head.0.weight", "final.head.0.bn.running_mean"] {
      #expect(failures.contains { $0.hasPrefix(name) }, "\(name) is within its bound")
    }
  }

  /// Control: a wrong number is detected.
  @Test func aWrongNumberIsNoticed() throws {
    let fixture = try FixtureCase(FixtureCase.all.first { $0.contains("/encoder-") }!)
    var outcome = try encode(fixture)
    let name = "eval.features"
    outcome[name]!.values[0] *= 1.01
    #expect(try fixture.failures(outcome).contains { $0.hasPrefix(name) })
    outcome[name] = nil
    #expect(try fixture.failures(outcome).contains { $0.hasPrefix(name) })
  }

  // MARK: Encoders

  private func encode(_ fixture: FixtureCase) throws -> FixtureCase.Outcome {
    let context = Context()
    let network = Network(try fixture.encoder)
    let n = fixture.header.batch
    let state = network.makeState()
    let gradients = ParameterSlab(network.parameters)
    try Weights.fill(state, from: fixture.file, fixture.path)
    var pixels = try fixture.images("view.0")
    var cotangent = try fixture.file.floats("cotangent")
    var outcome: FixtureCase.Outcome = [:]
    pixels.withUnsafeMutableBufferPointer { pixels in
      let x = Tensor(
        pixels.baseAddress!, n: n, h: fixture.header.size, w: fixture.header.size,
        c: fixture.header.recipe.encoder.channels)
      context.scratch { arena in
        let groups = BatchGroups(images: n, in: arena)
        let evaluated = network.forward(x, tap: .features, Pass(context, state, .inference, groups)).features
        outcome["eval.features"] = ([n, evaluated.c], evaluated.buffer.map(Double.init))
        let pass = Pass(context, state, .train, groups, gradients: gradients)
        let tape = network.forward(x, tap: .features, pass)
        outcome["train.features"] = ([n, tape.features.c], tape.features.buffer.map(Double.init))
        cotangent.withUnsafeMutableBufferPointer {
          network.backward(Tensor($0.baseAddress!, n: n, c: tape.features.c), tape, pass)
        }
      }
    }
    FixtureCase.outcome(gradients, "train.gradient.", into: &outcome)
    FixtureCase.outcome(state.statistics, "train.", into: &outcome)
    return outcome
  }

  // MARK: Methods

  private func optimizer(_ fixture: FixtureCase) throws -> any Optimizer {
    let o = try #require(fixture.header.recipe.optimizer)
    let exclude: [Exclusion] = o.exclude ? [.normalisation, .bias] : []
    switch (o.name, o.rateInside) {
    case ("sgd", false):
      return SGD(momentum: o.momentum, nesterov: o.nesterov, decay: o.decay, exclude: exclude)
    case ("lars", let inside):
      return LARS(
        momentum: o.momentum, nesterov: o.nesterov, decay: o.decay, trust: try #require(o.trust),
        rateIn: inside ? .inside : .outside, ratio: o.norms == "joint" ? .combined : .separate, exclude: exclude)
    default: throw RunError("\(fixture.path): optimizer \(o) is not known here")
    }
  }

  /// - Parameters:
  ///   - other: a method to use instead of the file's.
  ///   - apart: whether every view is a separate kind.
  private func train(
    _ fixture: FixtureCase, _ other: (any MethodRecipe)? = nil, apart: Bool = false
  ) throws -> FixtureCase.Outcome {
    let context = Context()
    let header = fixture.header
    let steps = try #require(header.steps)
    let groups = try #require(header.recipe.batchNorm).groups
    let o = try #require(header.recipe.optimizer)
    let s = try #require(header.recipe.schedule)
    let plan = RunPlan(stepsPerEpoch: 1, batch: header.batch, length: .steps(s.steps))
    let method = try (other ?? fixture.method).make(
      MethodSetting(
        encoder: try fixture.encoder, normalisation: groups, images: header.recipe.method?.images ?? header.batch,
        plan: plan, context: context))
    method.initialise()
    let encoder = method.encoder
    try Weights.fill(encoder.state, from: fixture.file, fixture.path)
    method.adoptEncoder()
    try fill(method, from: fixture)
    let optimizer = try optimizer(fixture)
    let schedule = Schedule(
      try #require(Schedule.Shape(rawValue: s.name)), warmup: .steps(s.warmup), start: s.start ?? 0,
      warmupEnds: s.warmupEnds ?? .exclusive)
    var outcome: FixtureCase.Outcome = [:]
    var kinds = header.views ?? [[2, header.size]]
    if apart { kinds = kinds.flatMap { Array(repeating: [1, $0[1]], count: $0[0]) } }
    for step in 0..<steps {
      var pixels: [[Float]] = []
      var number = 0
      for kind in kinds {
        pixels.append([])
        for _ in 0..<kind[0] {
          pixels[pixels.count - 1] += try fixture.images("step.\(step + 1).view.\(number)", size: kind[1])
          number += 1
        }
      }
      let views = zip(kinds, pixels).map { kind, pixels in
        let tensor = Tensor(
          .allocate(capacity: pixels.count), n: kind[0] * header.batch, h: kind[1], w: kind[1],
          c: header.recipe.encoder.channels)
        tensor.data.initialize(from: pixels, count: pixels.count)
        return tensor
      }
      defer { for view in views { view.data.deallocate() } }
      var order: [Int]?
      if fixture.file.contains("step.\(step + 1).permutation") {
        // The file has the sample at every place; `order` is the inverse, the place of every sample.
        let samples = try fixture.file.integers("step.\(step + 1).permutation").map(Int.init)
        order = samples.indices.sorted { samples[$0] < samples[$1] }
      }
      func given(_ name: String) throws -> [Int]? {
        let name = "step.\(step + 1)." + name
        return fixture.file.contains(name) ? try fixture.file.integers(name).map(Int.init) : nil
      }
      let samples = try given("samples") ?? Array(0..<header.batch)
      let drawn = try given("negatives")
      let told = method.gradients(
        MethodInput(
          step: step, batch: header.batch, shares: [header.batch], rank: 0, samples: samples, views: views,
          order: order, drawn: drawn))
      outcome["step.\(step + 1).loss"] = ([1], [told.loss])
      if let inBatch = told.figures[.inBatch] { outcome["step.\(step + 1).inBatch"] = ([1], [inBatch]) }
      for trained in method.trained {
        FixtureCase.outcome(trained.gradients, "step.\(step + 1).gradient." + prefix(trained, method), into: &outcome)
      }
      let rate = schedule.rate(step: step, base: o.rate, scale: 1, plan)
      #expect(abs(rate - (try #require(header.rates))[step]) <= 1e-12 * o.rate)
      method.update(optimizer, step: step, rate: rate, context)
    }
    for trained in method.trained {
      let prefix = prefix(trained, method)
      FixtureCase.outcome(trained.state.parameters, "final." + prefix, into: &outcome)
      FixtureCase.outcome(trained.state.statistics, "final." + prefix, into: &outcome)
      FixtureCase.outcome(trained.moments[0].slab, "final.velocity." + prefix, into: &outcome)
    }
    addState(method, to: &outcome)
    return outcome
  }

  /// Prefix of a network's tensors; the first network's is empty.
  private func prefix(_ trained: Trained, _ method: any Method) -> String {
    trained === method.encoder ? "" : trained.name + "."
  }

  /// The name of saved state in a fixture.
  private func name(_ state: SavedState) -> String {
    let bare = state.name.replacing("/parameters/", with: ".").replacing("/statistics/", with: ".")
    let known = [
      "queue/keys": "queue", "queue/pointer": "pointer", "bank/values": "bank", "negatives/values": "negatives",
    ]
    return known[bare] ?? bare.replacing("/", with: ".")
  }

  private func isNetwork(_ state: SavedState) -> Bool {
    state.name.contains("/parameters/") || state.name.contains("/statistics/")
  }

  /// Sets the method's state to the file's.
  private func fill(_ method: any Method, from fixture: FixtureCase) throws {
    for state in method.state where fixture.file.contains(name(state)) {
      guard case .floats(let buffer) = state.values else { throw RunError("\(state.name) holds no floats") }
      let shape = try fixture.file.shape(name(state))
      let given = try fixture.file.floats(name(state))
      let expected = isNetwork(state) ? Weights.exchangedShape(state.shape) : state.shape
      #expect(shape == expected)
      if isNetwork(state) {
        Weights.imported(given, state.shape, into: buffer.baseAddress!)
      } else {
        for i in given.indices { buffer[i] = given[i] }
      }
    }
  }

  /// Adds the method's state besides its trained networks.
  private func addState(_ method: any Method, to outcome: inout FixtureCase.Outcome) {
    for state in method.state {
      let name = "final." + name(state)
      switch state.values {
      case .integers(let values): outcome[name] = ([1], [Double(values[0])])
      case .floats(let values) where isNetwork(state):
        outcome[name] = (
          Weights.exchangedShape(state.shape),
          Weights.exported(UnsafePointer(values.baseAddress!), state.shape).map(Double.init)
        )
      case .floats(let values): outcome[name] = (state.shape, values.map(Double.init))
      }
    }
  }
}
