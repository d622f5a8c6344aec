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

  /// Runs the file's steps.
  /// - Parameters:
  ///   - other: a method to use instead of the file's.
  ///   - apart: whether every view is a separate kind.
  private func train(
    _ fixture: FixtureCase, _ other: (any MethodRecipe)? = nil, apart: Bool = false
  ) throws -> FixtureCase.Outcome {
    let context = Context()
    let header = fixture.header
    let s = try #require(header.recipe.schedule)
    let rates = try #require(header.rates)
    let base = try #require(header.recipe.optimizer).rate
    let plan = RunPlan(stepsPerEpoch: 1, batch: header.batch, length: .steps(s.steps))
    let schedule = Schedule(
      try #require(Schedule.Shape(rawValue: s.name)), warmup: .steps(s.warmup), start: s.start ?? 0,
      warmupEnds: s.warmupEnds ?? .exclusive)
    let method = try method(fixture, other, plan, context)
    let optimizer = try optimizer(fixture)
    var outcome: FixtureCase.Outcome = [:]
    for step in 0..<(try #require(header.steps)) {
      let views = try views(fixture, step: step, apart: apart)
      defer { for view in views { view.data.deallocate() } }
      let told = method.gradients(try input(fixture, step: step, views))
      let prefix = "step.\(step + 1)."
      outcome[prefix + "loss"] = ([1], [told.loss])
      if let inBatch = told.figures[.inBatch] { outcome[prefix + "inBatch"] = ([1], [inBatch]) }
      for trained in method.trained {
        FixtureCase.outcome(trained.gradients, prefix + "gradient." + self.prefix(trained, method), into: &outcome)
      }
      let rate = schedule.rate(step: step, base: base, scale: 1, plan)
      #expect(abs(rate - rates[step]) <= 1e-12 * base)
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

  /// The file's method, or another, with the file's state.
  private func method(
    _ fixture: FixtureCase, _ other: (any MethodRecipe)?, _ plan: RunPlan, _ context: Context
  ) throws -> any Method {
    let header = fixture.header
    let method = try (other ?? fixture.method).make(
      MethodSetting(
        encoder: try fixture.encoder, normalisation: try #require(header.recipe.batchNorm).groups,
        images: header.recipe.method?.images ?? header.batch, plan: plan, context: context))
    method.initialise()
    try Weights.fill(method.encoder.state, from: fixture.file, fixture.path)
    method.adoptEncoder()
    try fill(method, from: fixture)
    return method
  }

  /// The views of a step, a tensor for each kind, which the caller deallocates.
  private func views(_ fixture: FixtureCase, step: Int, apart: Bool) throws -> [Tensor] {
    let header = fixture.header
    var kinds = header.views ?? [[2, header.size]]
    if apart { kinds = kinds.flatMap { Array(repeating: [1, $0[1]], count: $0[0]) } }
    var number = 0
    let pixels = try kinds.map { kind in
      var all: [Float] = []
      for _ in 0..<kind[0] {
        all += try fixture.images("step.\(step + 1).view.\(number)", size: kind[1])
        number += 1
      }
      return all
    }
    return zip(kinds, pixels).map { kind, pixels in
      let tensor = Tensor(
        .allocate(capacity: pixels.count), n: kind[0] * header.batch, h: kind[1], w: kind[1],
        c: header.recipe.encoder.channels)
      tensor.data.initialize(from: pixels, count: pixels.count)
      return tensor
    }
  }

  /// What the method gets in a step: its views, and what PyTorch drew.
  private func input(_ fixture: FixtureCase, step: Int, _ views: [Tensor]) throws -> MethodInput {
    func given(_ name: String) throws -> [Int]? {
      let name = "step.\(step + 1)." + name
      return fixture.file.contains(name) ? try fixture.file.integers(name).map(Int.init) : nil
    }
    let batch = fixture.header.batch
    // The file has the sample at every place; `order` is the inverse, the place of every sample.
    let order = try given("permutation").map { samples in samples.indices.sorted { samples[$0] < samples[$1] } }
    return MethodInput(
      step: step, batch: batch, shares: [batch], rank: 0, samples: try given("samples") ?? Array(0..<batch),
      views: views, order: order, drawn: try given("negatives"))
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
