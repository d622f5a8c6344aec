import Engine
import Foundation
import Ranks
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
      "\(failures.count) of \(fixture.header.bounds!.count) in \(path): \(failures.prefix(6).joined(separator: "; "))")
  }

  /// BYOL with its two views as two kinds, as for the paper's different augmentations, gives the same run.
  @Test(arguments: FixtureCase.all.filter { $0.contains("/byol-") }) func viewsOfTwoKindsAgreeToo(_ path: String) throws
  {
    let fixture = try FixtureCase(path)
    var change = Change()
    change.apart = true
    let failures = try fixture.failures(train(fixture, change))
    #expect(
      failures.isEmpty,
      "\(failures.count) of \(fixture.header.bounds!.count) in \(path): \(failures.prefix(6).joined(separator: "; "))")
  }

  /// By default SwAV's head runs on all crops at once. By kinds its BN has other statistics, updated twice per step,
  /// and all gradients of the head differ.
  @Test func swavWithAHeadByKindsIsAnotherRun() throws {
    let fixture = try FixtureCase(FixtureCase.all.first { $0.contains("/swav-crops") }!)
    var method = try #require(try fixture.method as? SwAV)
    method.headBatch = .kind
    var change = Change()
    change.method = method
    let failures = try fixture.failures(train(fixture, change))
    for name in ["step.1.loss", "step.1.gradient.head.0.weight", "final.head.0.bn.running_mean"] {
      #expect(failures.contains { $0.hasPrefix(name) }, "\(name) is within its bound")
    }
  }

  /// Controls of learning from labels: each breaks one thing, and a number that depends on it then misses its bound.
  @Test(arguments: controls.indices) func whatIsBrokenIsNoticed(_ index: Int) throws {
    let control = Self.controls[index]
    let fixture = try FixtureCase(FixtureCase.all.first { $0.hasSuffix("/\(control.file).safetensors") }!)
    var change = Change()
    try control.breaks(fixture, &change)
    let failures = try fixture.failures(train(fixture, change))
    let missed = failures.contains { $0.hasPrefix(control.missed) }
    #expect(missed, "\(control.file), \(control.missed): \(failures.prefix(6))")
    let held = failures.contains { line in control.held.contains { line.hasPrefix($0) } }
    #expect(!held, "\(control.file): \(failures.prefix(6))")
  }

  /// A file, what is broken, a number that must then miss its bound, and numbers that must not.
  struct Control: Sendable {
    let file: String
    let missed: String
    var held: [String] = []
    let breaks: @Sendable (FixtureCase, inout Change) throws -> Void
  }

  private static func supervised(_ change: @escaping @Sendable (inout Supervised) -> Void) -> (
    @Sendable (FixtureCase, inout Change) throws -> Void
  ) {
    { fixture, changed in
      var method = try #require(try fixture.method as? Supervised)
      change(&method)
      changed.method = method
    }
  }

  private static func distil(_ change: @escaping @Sendable (inout Distil) -> Void) -> (
    @Sendable (FixtureCase, inout Change) throws -> Void
  ) {
    { fixture, changed in
      var method = try #require(try fixture.method as? Distil)
      change(&method)
      changed.method = method
    }
  }

  /// Changes one of the file's rules.
  private static func rule(_ index: Int, _ change: @escaping @Sendable (inout ParameterRule) -> Void) -> (
    @Sendable (FixtureCase, inout Change) throws -> Void
  ) {
    { fixture, changed in
      var rules = try #require(fixture.header.recipe.parameters)
      change(&rules[index])
      changed.rules = rules
    }
  }

  static let controls = [
    Control(file: "supervised-whole", missed: "step.1.loss", breaks: supervised { $0.smoothing = 0.11 }),
    Control(file: "supervised-whole", missed: "step.1.loss", breaks: supervised { $0.classWeights = .none }),
    Control(
      file: "supervised-frozen", missed: "final.encoder.bn1.running_mean",
      breaks: rule(0) {
        $0.trains = nil
        $0.rate = 0
      }),
    Control(
      file: "supervised-frozen", missed: "step.1.loss",
      breaks: supervised { $0.classifier.layers[0].relu = false }),
    Control(
      file: "supervised-bn", missed: "final.encoder.bn1.running_mean",
      breaks: { fixture, change in
        var still = ParameterRule()
        still.kinds = [.mean, .variance]
        still.trains = false
        change.rules = fixture.header.recipe.parameters! + [still]
      }),
    Control(
      file: "supervised-bn", missed: "final.encoder.conv1.weight", held: ["step.1."], breaks: { $1.rules = [] }),
    Control(
      file: "supervised-parts", missed: "final.classifier.weight", held: ["step.1."], breaks: rule(0) { $0.rate = 99 }),
    Control(
      file: "supervised-parts", missed: "final.encoder.layer1.0.conv1.weight", held: ["step.1."],
      breaks: rule(1) { $0.decay = 1 }),
    Control(
      file: "supervised-parts", missed: "final.encoder.conv1.weight", held: ["step.1."],
      breaks: rule(2) { $0.trains = true }),
    Control(
      file: "supervised-adam", missed: "final.classifier.weight", held: ["step.1."],
      breaks: { fixture, change in
        var adam = Adam()
        adam.beta2 = 0.99
        adam.epsilon = 1e-3
        adam.decay = 0.1
        adam.exclude = [.normalisation, .bias]
        change.optimizer = adam  // not decoupled
      }),
    Control(
      file: "supervised-lars", missed: "final.classifier.weight", held: ["step.1."],
      breaks: rule(0) { $0.adapts = true }),
    Control(file: "supervised-after-simclr", missed: "step.1.loss", breaks: { $1.carry = ["encoder"] }),
    Control(
      file: "supervised-after-simclr", missed: "step.1.loss", breaks: { $1.carry = ["encoder.layer1", "head.0"] }),
    Control(file: "distil-soft", missed: "step.1.loss", breaks: distil { $0.temperature = 2.1 }),
    Control(file: "distil-soft", missed: "step.1.loss", breaks: distil { $0.squared = true }),
    Control(file: "distil-labels", missed: "step.1.loss", breaks: distil { $0.squared = false }),
    Control(file: "distil-labels", missed: "step.1.loss", breaks: distil { $0.alpha = 0.51 }),
    Control(file: "distil-labels", missed: "step.1.loss", breaks: { $1.blind = true }),
  ]

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
    case ("adam", false):
      var adam = Adam()
      adam.beta1 = try #require(o.beta1)
      adam.beta2 = try #require(o.beta2)
      adam.epsilon = try #require(o.epsilon)
      adam.decoupled = try #require(o.decoupled as Bool?)
      adam.decay = o.decay
      adam.exclude = exclude
      return adam
    default: throw RunError("\(fixture.path): optimizer \(o) is not known here")
    }
  }

  /// What a test does otherwise than the file says.
  struct Change {
    var method: (any MethodRecipe)?
    var optimizer: (any Optimizer)?
    var rules: [ParameterRule]?
    /// Whether every view is a separate kind.
    var apart = false
    /// The parts that are taken over.
    var carry: [String]?
    /// Whether no label is told.
    var blind = false
  }

  private func train(_ fixture: FixtureCase, _ change: Change = Change()) throws -> FixtureCase.Outcome {
    try run(fixture, change).outcome
  }

  /// Runs the file's steps.
  private func run(
    _ fixture: FixtureCase, _ change: Change = Change()
  ) throws -> (method: any Method, outcome: FixtureCase.Outcome) {
    let context = Context()
    let header = fixture.header
    let s = try #require(header.recipe.schedule)
    let base = try #require(header.recipe.optimizer).rate
    let plan = RunPlan(stepsPerEpoch: 1, batch: header.batch, length: .steps(s.steps))
    let schedule = Schedule(
      try #require(Schedule.Shape(rawValue: s.name)), warmup: .steps(s.warmup), start: s.start ?? 0,
      warmupEnds: s.warmupEnds ?? .exclusive)
    let optimizer = try change.optimizer ?? optimizer(fixture)
    let method = try method(fixture, change, plan, optimizer, context)
    var outcome: FixtureCase.Outcome = [:]
    for step in 0..<(try #require(header.steps)) {
      let views = try views(fixture, step: step, apart: change.apart)
      defer { for view in views { view.data.deallocate() } }
      let told = method.gradients(try input(fixture, step: step, views, blind: change.blind))
      let prefix = "step.\(step + 1)."
      outcome[prefix + "loss"] = ([1], [told.loss])
      if let inBatch = told.figures[.inBatch] { outcome[prefix + "inBatch"] = ([1], [inBatch]) }
      for trained in method.trained {
        FixtureCase.outcome(trained.gradients, prefix + "gradient." + self.prefix(trained, method), into: &outcome)
      }
      let rate = schedule.rate(step: step, base: base, scale: 1, plan)
      if let rates = header.rates { #expect(abs(rate - rates[step]) <= 1e-12 * base) }
      method.update(optimizer, step: step, rate: rate, context)
    }
    for trained in method.trained {
      let prefix = prefix(trained, method)
      FixtureCase.outcome(trained.state.parameters, "final." + prefix, into: &outcome)
      FixtureCase.outcome(trained.state.statistics, "final." + prefix, into: &outcome)
      for (slab, moment) in zip(["velocity", "square"], trained.moments) {
        FixtureCase.outcome(moment.slab, "final.\(slab)." + prefix, into: &outcome)
      }
    }
    addState(method, to: &outcome)
    return (method, outcome)
  }

  /// The file's method, or another, with the file's state.
  private func method(
    _ fixture: FixtureCase, _ change: Change, _ plan: RunPlan, _ optimizer: any Optimizer, _ context: Context
  ) throws -> any Method {
    let header = fixture.header
    if let before = try fixture.before {
      let method = try started(fixture, after: run(before).method, carry: change.carry ?? fixture.header.start!.carry)
      try fixture.fill(method.encoder.state)
      return method
    }
    let method = try (change.method ?? fixture.method).make(
      MethodSetting(
        encoder: try fixture.encoder, normalisation: try #require(header.recipe.batchNorm).groups,
        images: header.recipe.method?.images ?? header.batch, classes: header.recipe.method?.classes ?? 0,
        teachers: try [fixture.teacher].compactMap { $0 }, plan: plan, optimizer: optimizer,
        rules: (change.rules ?? header.recipe.parameters ?? []).map(\.rule), context: context))
    method.initialise()
    try fixture.fill(method.encoder.state)
    method.adoptEncoder()
    try fill(method, from: fixture)
    return method
  }

  /// The method of a stage that starts from what another came to, by its checkpoint, as a run starts it.
  private func started(_ fixture: FixtureCase, after first: any Method, carry: [String]) throws -> any Method {
    let header = fixture.header
    let tiny = try TinyRun()
    let data = try tiny.pack("data", count: 2 * header.batch, classes: ["a", "b", "c", "d"])
    let folder = RunFolder(tiny.folder + "/run")
    try folder.make()
    let steps = try #require(header.steps)
    let manifest = Manifest(
      stageSteps: [steps], recipe: "", data: data.path, dataFingerprint: "", images: data.count,
      encoder: first.encoder.name, channels: 1, fingerprint: [:])
    try Checkpoint.write(first.saved, manifest, in: folder, keep: 2)
    let encoder = header.recipe.encoder
    let supervised = try fixture.method
    let words = try String(decoding: JSONEncoder().encode(AnyMethodRecipe(supervised)), as: UTF8.self)
    let recipe = try Recipe(
      yaml: """
        encoder: {name: \(encoder.name), width: \(encoder.width), stem: \(encoder.stem)}
        views: [{count: 1, size: \(header.size), operations: [{normalise: dataset}]}]
        method: \(words)
        optimizer: {name: sgd, rate: 1}
        batch: \(header.batch)
        length: \(steps) steps
        start: {carry: [\(carry.joined(separator: ", "))]}
        """, from: "test")
    let stageRun = try StageRun(recipe.stages[0], data: data, heldOut: nil, seed: 1, index: 0, Context())
    let path = folder.checkpoints + "/" + Checkpoint.name(step: steps)
    #expect(try stageRun.start(from: .stage(0), SingleProcess()) { _ in path } == path)
    let old = arrays(of: first.encoder.state)
    for (name, values) in arrays(of: stageRun.method.encoder.state) {
      let bare = name.replacing("x/parameters/", with: "").replacing("x/statistics/", with: "")
      let isCarried = carry.contains { PartName(rawValue: $0).covers(bare) }
      #expect((old[name] == values) == isCarried, "\(name)")
      if bare.hasPrefix("classifier") { #expect(values.allSatisfy { $0 == 0 }, "\(name) does not begin at zero") }
    }
    return stageRun.method
  }

  /// The views of a step, a tensor for each kind, which the caller deallocates.
  private func views(_ fixture: FixtureCase, step: Int, apart: Bool) throws -> [Tensor] {
    let header = fixture.header
    var kinds = header.views ?? [[["supervised", "distil"].contains(header.kind) ? 1 : 2, header.size]]
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
  private func input(_ fixture: FixtureCase, step: Int, _ views: [Tensor], blind: Bool) throws -> MethodInput {
    func given(_ name: String) throws -> [Int]? {
      let name = fixture.prefix + "step.\(step + 1)." + name
      return fixture.file.contains(name) ? try fixture.file.integers(name).map(Int.init) : nil
    }
    let batch = fixture.header.batch
    // The file has the sample at every place; `order` is the inverse, the place of every sample.
    let order = try given("permutation").map { samples in samples.indices.sorted { samples[$0] < samples[$1] } }
    let labels = try given("labels").flatMap { blind ? nil : $0 } ?? Array(repeating: -1, count: batch)
    return MethodInput(
      step: step, batch: batch, shares: [batch], rank: 0, samples: try given("samples") ?? Array(0..<batch),
      labels: labels.map(Int32.init), views: views, order: order, drawn: try given("negatives"))
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
