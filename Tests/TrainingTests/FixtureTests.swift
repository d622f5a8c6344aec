import Engine
import Foundation
import Shards
import Testing
import Training

/// Training runs against PyTorch's: every file in `Fixtures`, by its own words.
@Suite struct FixtureTests {
  @Test func thereAreCasesOfEveryKind() throws {
    let kinds = try Set(FixtureCase.all.map { try FixtureCase($0).header.kind })
    #expect(kinds.isSuperset(of: ["encoder", "simclr", "moco", "memory-bank", "adco"]))
  }

  @Test(arguments: FixtureCase.all) func agreesWithPyTorch(_ path: String) throws {
    let fixture = try FixtureCase(path)
    let outcome = try fixture.header.kind == "encoder" ? encode(fixture) : train(fixture)
    let failures = try fixture.failures(outcome)
    #expect(failures.isEmpty, "\(failures.count) of \(fixture.header.bounds.count) in \(path): \(failures.prefix(6).joined(separator: "; "))")
  }

  /// Another bound than PyTorch's must fail: the comparison itself is tested.
  @Test func aWrongNumberIsNoticed() throws {
    let fixture = try FixtureCase(FixtureCase.all.first { $0.contains("encoder") }!)
    var outcome = try encode(fixture)
    let name = "eval.features"
    outcome[name]!.values[0] *= 1.01
    #expect(try fixture.failures(outcome).contains { $0.hasPrefix(name) })
    outcome[name] = nil
    #expect(try fixture.failures(outcome).contains { $0.hasPrefix(name) })
  }

  // MARK: Encoders

  private func encode(_ fixture: FixtureCase) throws -> FixtureCase.Outcome {
    let context = Context(), network = Network(try fixture.encoder), n = fixture.header.batch
    let state = network.makeState(), gradients = ParameterSlab(network.parameters)
    try Weights.fill(state, from: fixture.file, fixture.path)
    var pixels = try fixture.images("view.0"), cotangent = try fixture.file.floats("cotangent")
    var outcome: FixtureCase.Outcome = [:]
    pixels.withUnsafeMutableBufferPointer { pixels in
      let x = Tensor(pixels.baseAddress!, n: n, h: fixture.header.size, w: fixture.header.size, c: fixture.header.recipe.encoder.channels)
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

  private func recipe(_ fixture: FixtureCase) throws -> any MethodRecipe {
    let options = try #require(fixture.header.recipe.method), head = options.head.map(HeadWidth.channels)
    switch fixture.header.kind {
    case "simclr":
      var simclr = SimCLR()
      (simclr.temperature, simclr.head, simclr.lossScale) = (options.temperature, head, options.lossScale ?? 1)
      return simclr
    case "moco":
      var moco = MoCo()
      (moco.temperature, moco.head) = (options.temperature, head)
      (moco.queue, moco.momentum) = (try #require(options.queue), try #require(options.momentum))
      return moco
    case "memory-bank":
      var bank = MemoryBank()
      (bank.temperature, bank.head, bank.momentum) = (options.temperature, head, try #require(options.momentum))
      bank.negatives = try #require(options.negatives)
      let loss = try #require(options.loss)
      bank.loss = try #require(DrawnContrast.Loss(rawValue: loss))
      return bank
    case "adco":
      var adco = AdCo()
      (adco.temperature, adco.head, adco.momentum) = (options.temperature, head, try #require(options.momentum))
      (adco.negatives, adco.bankTemperature) = (try #require(options.negatives), try #require(options.bankTemperature))
      (adco.bankRate, adco.bankMomentum) = (try #require(options.bankRate), try #require(options.bankMomentum))
      (adco.bankDecay, adco.inBatch) = (try #require(options.bankDecay), try #require(options.inBatch))
      (adco.symmetric, adco.fill) = (try #require(options.symmetric), try #require(options.fill))
      return adco
    default: throw RunError("\(fixture.path): kind \(fixture.header.kind) is not known here")
    }
  }

  private func optimizer(_ fixture: FixtureCase) throws -> any Optimizer {
    let o = try #require(fixture.header.recipe.optimizer), exclude: [Exclusion] = o.exclude ? [.normalisation, .bias] : []
    switch (o.name, o.rateInside) {
    case ("sgd", false): return SGD(momentum: Float(o.momentum), nesterov: o.nesterov, decay: Float(o.decay), exclude: exclude)
    case ("lars", let inside):
      return LARS(
        momentum: Float(o.momentum), nesterov: o.nesterov, decay: Float(o.decay), trust: Float(try #require(o.trust)),
        rateIn: inside ? .inside : .outside, ratio: o.norms == "joint" ? .combined : .separate, exclude: exclude)
    default: throw RunError("\(fixture.path): optimizer \(o) is not known here")
    }
  }

  private func train(_ fixture: FixtureCase) throws -> FixtureCase.Outcome {
    let context = Context(), header = fixture.header, steps = try #require(header.steps)
    let groups = try #require(header.recipe.batchNorm).groups
    let o = try #require(header.recipe.optimizer), s = try #require(header.recipe.schedule)
    let plan = RunPlan(stepsPerEpoch: 1, batch: header.batch, length: .steps(s.steps))
    let method = try recipe(fixture).make(
      MethodSetting(
        encoder: try fixture.encoder, normalisation: groups, images: header.recipe.method?.images ?? header.batch,
        plan: plan, context: context))
    method.initialise()
    let encoder = method.encoder
    try Weights.fill(encoder.state, from: fixture.file, fixture.path)
    method.adoptEncoder()
    for (given, name) in [("queue", "queue/keys"), ("bank", "bank/values"), ("negatives", "negatives/values")]
    where fixture.file.contains(given) {
      try fill(method, name, try fixture.file.floats(given))
    }
    let optimizer = try optimizer(fixture)
    let schedule = Schedule(try #require(Schedule.Shape(rawValue: s.name)), warmup: .steps(s.warmup))
    var outcome: FixtureCase.Outcome = [:]
    for step in 0..<steps {
      let prefix = "step.\(step + 1)."
      var number = 0
      let pixels = try fixture.views.map { kind in
        try (0..<kind.count).flatMap { _ in
          defer { number += 1 }
          return try fixture.images(prefix + "view.\(number)", size: kind.size)
        }
      }
      var order: [Int]?
      if fixture.file.contains(prefix + "permutation") {
        // The file has the sample at every place; ours is the place of every sample.
        let samples = try fixture.file.integers(prefix + "permutation").map(Int.init)
        order = samples.indices.sorted { samples[$0] < samples[$1] }
      }
      func given(_ name: String) throws -> [Int]? {
        fixture.file.contains(prefix + name) ? try fixture.file.integers(prefix + name).map(Int.init) : nil
      }
      let samples = try given("samples") ?? Array(0..<header.batch), drawn = try given("negatives")
      encoder.gradients.zero()
      let buffers = pixels.map { values in
        let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: values.count)
        _ = buffer.initialize(from: values)
        return buffer
      }
      defer { buffers.forEach { $0.deallocate() } }
      let views = zip(fixture.views, buffers).map { kind, buffer in
        Tensor(buffer.baseAddress!, n: kind.count * header.batch, h: kind.size, w: kind.size, c: header.recipe.encoder.channels)
      }
      let told = method.step(
        MethodInput(
          step: step, batch: header.batch, shares: [header.batch], rank: 0, samples: samples, views: views, order: order,
          drawn: drawn))
      let loss = told.loss
      if let inBatch = told.inBatch { outcome[prefix + "inBatch"] = ([1], [inBatch]) }
      encoder.reducer.finish()
      outcome["step.\(step + 1).loss"] = ([1], [loss])
      FixtureCase.outcome(encoder.gradients, "step.\(step + 1).gradient.", into: &outcome)
      let rate = schedule.rate(step: step, base: o.rate, scale: 1, plan)
      #expect(abs(rate - (try #require(header.rates))[step]) <= 1e-12 * o.rate)
      optimizer.update(encoder.state.parameters, encoder.gradients, momentum: encoder.momentum, rate: Float(rate), context)
      method.commit()
    }
    FixtureCase.outcome(encoder.state.parameters, "final.", into: &outcome)
    FixtureCase.outcome(encoder.state.statistics, "final.", into: &outcome)
    FixtureCase.outcome(encoder.momentum, "final.velocity.", into: &outcome)
    addState(method, encoder, to: &outcome)
    return outcome
  }

  private func fill(_ method: any Method, _ name: String, _ values: [Float]) throws {
    let state = try #require(method.state.first { $0.name == name })
    guard case .floats(let buffer) = state.values else { throw RunError("\(name) holds no floats") }
    #expect(buffer.count == values.count)
    for i in values.indices { buffer[i] = values[i] }
  }

  /// The method's own state by the file's names: `key/parameters/NAME` is `key.NAME`, `bank/values` is `bank`, `queue/keys`
  /// is `queue`, and every other slash a dot.
  private func addState(_ method: any Method, _ encoder: Trained, to outcome: inout FixtureCase.Outcome) {
    let names = ["queue/keys": "queue", "queue/pointer": "pointer"]
    for array in method.state {
      switch array.values {
      case .integers(let values):
        outcome["final." + (names[array.name] ?? array.name.replacing("/", with: "."))] = ([values.count], values.map { Double($0) })
      case .floats(let values):
        let parts = array.name.split(separator: "/", maxSplits: 2)
        if parts.count == 3, ["parameters", "statistics"].contains(parts[1]) {
          outcome["final.\(parts[0]).\(parts[2])"] = (
            Weights.exchangedShape(array.shape), Weights.exported(UnsafePointer(values.baseAddress!), array.shape).map(Double.init)
          )
        } else {
          let name = names[array.name] ?? array.name.replacing("/values", with: "").replacing("/", with: ".")
          outcome["final." + name] = (array.shape, values.map(Double.init))
        }
      }
    }
  }
}
