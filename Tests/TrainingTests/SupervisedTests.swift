import Engine
import Foundation
import Ranks
import Shards
import TestSupport
import Testing
import Training

/// A method that learns the targets of a puzzle, with the softmax cross-entropy of every view. This file has all that a
/// new method needs.
private struct Puzzle: MethodRecipe {
  static let name = "puzzle"
  var answers = 4

  func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String] { [] }
  func heads(features: Int, classes: Int) -> [HeadPlan] { [HeadPlan(.head, [Head.Layer(answers, bias: true)])] }

  func make(_ setting: MethodSetting) -> any Method { Running(self, setting) }

  final class Running: Method {
    let trained: [Trained]
    private let context: Context

    init(_ recipe: Puzzle, _ setting: MethodSetting) {
      context = setting.context
      trained = [setting.trained("encoder", recipe)]
    }

    func initialise() { encoder.state.initialise(seed: 1) }

    func step(_ input: MethodInput) -> Outcome {
      context.scratch { arena in
        let pass = encoder.pass(context, BatchGroups(images: input.views[0].n, in: arena))
        let tape = encoder.network.forward(input.views[0], pass)
        let scores = tape.output
        let total = Double(input.batch * scores.n / input.count)
        let sums = SoftmaxCrossEntropy().apply(scores, total: total, context) { Int(input.targets[0]![$0]) }
        encoder.network.backward(scores, tape, pass)
        return Outcome(sums, chance: log(Double(scores.c)))
      }
    }
  }
}

@Suite struct SupervisedTests {
  private let tiny: TinyRun
  init() throws { tiny = try TinyRun() }

  private func stage(_ method: String, _ changes: [String] = []) throws -> Stage {
    try TinyRun.recipe(
      [
        "views=[{count: 1, size: 10, operations: [{normalise: dataset}]}]", "optimizer={name: adam, rate: 0.003}",
        "method=\(method)", "length=60 steps",
      ] + changes
    ).stages[0]
  }

  private func stageRun(_ stage: Stage, _ data: DataSet, _ context: Context = Context()) throws -> StageRun {
    let stageRun = try StageRun(
      stage, data: data, heldOut: nil, seed: 1, index: 0, teachers: Teacher.drawn(for: stage, data), context)
    stageRun.method.initialise()
    return stageRun
  }

  /// Runs the first steps of a stage.
  @discardableResult
  private func train(
    _ stageRun: StageRun, steps: Int, _ check: (MethodInput) -> Bool = { _ in true }
  ) throws -> [Outcome] {
    let loader = try stageRun.loader(from: 0, threads: 1)
    return try (0..<steps).map { step in
      let batch = try loader.next()
      let input = stageRun.input(batch)
      #expect(check(input))
      let outcome = stageRun.gradients(input)
      loader.release(batch)
      stageRun.update(step: step)
      return outcome
    }
  }

  private func bits(_ stageRun: StageRun) -> [[UInt8]] { stageRun.method.saved.map { Array($0.bytes) } }

  // MARK: Learning

  @Test func classesAreLearned() throws {
    let data = try tiny.pack("labelled", count: 48)
    let stageRun = try stageRun(stage("{name: supervised}"), data)
    #expect(stageRun.method.embeddings == nil && stageRun.candidates == nil && stageRun.chance == log(3))
    let outcomes = try train(stageRun, steps: 60) { input in
      input.epoch == input.step / 4 && input.labels.allSatisfy { (0..<3).contains($0) }
    }
    // A classifier that begins at zero guesses.
    #expect(abs(outcomes[0].loss - log(3)) < 1e-12)
    #expect(outcomes.suffix(4).allSatisfy { $0.loss < 0.5 * log(3) && $0.figures[.accuracy]! > 0.7 }, "\(outcomes)")
    #expect(outcomes[0].figures[.candidates] == nil && outcomes[0].figures[.top1] == nil)
  }

  /// A student comes to agree with a teacher that it does not begin like.
  @Test func aTeacherIsLearned() throws {
    let data = try tiny.pack("labelled", count: 48)
    let stageRun = try stageRun(stage("{name: distil, teacher: previous}"), data)
    let outcomes = try train(stageRun, steps: 60) { $0.labels.allSatisfy { $0 == -1 } }
    #expect(outcomes[0].figures[.accuracy] == nil && stageRun.chance == log(3))
    let late = outcomes.suffix(8).reduce(0) { $0 + $1.figures[.agreement]! / 8 }
    #expect(late > 0.8 && outcomes[59].loss < outcomes[0].loss, "\(outcomes)")
  }

  /// A method may use the targets of a puzzle: by how many quarters each of four views was rotated.
  @Test func aMethodMayLearnFromAPuzzle() throws {
    let data = try tiny.pack("labelled", count: 48)
    var stage = try stage("{name: memory-bank, negatives: 8}")
    stage.views = try TinyRun.recipe([
      "views=[{count: 1, size: 10, operations: [{rotate: each}, {normalise: dataset}]}]",
      "method={name: memory-bank, negatives: 8}",
    ]).stages[0].views
    stage.views[0].count = 4
    stage.method = AnyMethodRecipe(Puzzle())
    let outcomes = try train(stageRun(stage, data), steps: 60) { input in
      (0..<input.views[0].n).allSatisfy { input.targets[0]![$0] == Int32($0 / input.count) }
    }
    // Stripes look the same after half a turn, so at best half of the guesses are right.
    #expect(outcomes.suffix(4).allSatisfy { $0.loss < 0.7 * log(4) && $0.figures[.accuracy]! > 0.4 }, "\(outcomes)")
  }

  // MARK: Labels that may not be seen

  /// Labels never reach a method that learns without, and it gives the same bits with other labels or none.
  @Test(arguments: ResumeTests.pretraining) func preTrainingDoesNotSeeLabels(_ method: String) throws {
    let sets = [
      try tiny.pack("right", count: 40),
      try tiny.pack("poisoned", count: 40, classes: ["c", "a", "b"], shown: ["a", "b", "c"]),
      try tiny.pack("unlabelled", count: 40, labelled: false),
    ]
    let results = try sets.map { data in
      let recipe = try Recipe(yaml: ResumeTests.recipe(method), from: "test")
      let stageRun = try stageRun(recipe.stages[0], data)
      #expect(stageRun.labels == nil)
      try train(stageRun, steps: 3) { input in
        input.labels.count == input.count && input.labels.allSatisfy { $0 == -1 }
      }
      return bits(stageRun)
    }
    let areEqual = results[0] == results[1] && results[0] == results[2]
    #expect(areEqual)
  }

  @Test func theMethodsThatLearnFromLabelsAreKnown() {
    let others = Set(ResumeTests.methods.keys).subtracting(ResumeTests.pretraining)
    #expect(others == ["supervised", "distil"])
  }

  /// The labels of images that were not chosen change nothing; those of chosen images do.
  @Test(arguments: ["{name: supervised}", "{name: distil, teacher: previous, alpha: 0.5}"])
  func onlyChosenLabelsAreSeen(_ method: String) throws {
    let right = try tiny.pack("right", count: 40)
    let poisoned = try tiny.pack("poisoned", count: 40, classes: ["c", "a", "b"], shown: ["a", "b", "c"])
    // In both sets the chosen images have the same labels: the key of an image begins with its name.
    let lists = try [("right", right), ("poisoned", poisoned)].map { name, data in
      let keys = try (0..<data.count).map(data.key).prefix(24)
      let path = tiny.folder + "/\(name).txt"
      try keys.joined(separator: "\n").write(toFile: path, atomically: false, encoding: .utf8)
      return path
    }
    let mixed = try mix(right, 24, poisoned)
    func result(_ data: DataSet, _ list: String) throws -> [[UInt8]] {
      let stage = try stage(method, ["data={labels: \(list), validation: 3}"])
      let stageRun = try stageRun(stage, data)
      let isAll = stage.method.value.labels == .some
      #expect(stageRun.labels?.training.count == 21 && stageRun.images.count == (isAll ? 37 : 21))
      var hidden = 0
      try train(stageRun, steps: 4) { input in
        hidden += input.labels.count { $0 == -1 }
        return true
      }
      #expect((hidden > 0) == isAll)
      return bits(stageRun)
    }
    let (a, b, c) = (try result(right, lists[0]), try result(mixed, lists[0]), try result(poisoned, lists[1]))
    #expect(a == b)
    #expect(a != c)
  }

  /// A set with the first images' labels of one set and the others' of another.
  private func mix(_ first: DataSet, _ count: Int, _ second: DataSet) throws -> DataSet {
    let path = tiny.folder + "/mixed"
    let writer = try DataSetWriter(path, classNames: first.classNames, shardSize: 1 << 20)
    for sample in 0..<first.count {
      var record = first.record(sample)
      if sample >= count { record.label = second.record(sample).label }
      var bytes: [UInt8] = []
      try first.fetch(sample..<sample + 1, into: &bytes)
      try bytes[..<record.length].withUnsafeBytes { try writer.append($0, record, key: try first.key(sample)) }
    }
    try writer.finish(mean: first.mean, deviation: first.deviation)
    return try DataSet(at: path)
  }

  // MARK: Parts that do not train

  private static let frozen: [(rules: String, still: @Sendable (String) -> Bool)] = [
    ("[{part: encoder, trains: false}]", { $0.hasPrefix("encoder.") }),
    (
      "[{part: encoder, kinds: [weight], trains: false}]",
      { $0.hasPrefix("encoder.") && !$0.contains("bn") && !$0.contains("downsample.1") }
    ),
    ("[{trains: false}, {part: classifier, trains: true}]", { !$0.hasPrefix("classifier.") }),
    (
      "[{part: encoder.layer1, trains: false}, {part: head, trains: false}]",
      {
        $0.hasPrefix("encoder.layer1.") || $0.hasPrefix("head.")
      }
    ),
  ]

  /// What does not train keeps its bits through any number of steps, with every optimizer, decay and all.
  @Test(arguments: frozen.indices, ["sgd, rate: 0.1, decay: 0.1", "lars, rate: 0.1, decay: 0.1", "adam, rate: 0.01"])
  func frozenPartsKeepTheirBits(_ index: Int, _ optimizer: String) throws {
    let (rules, isStill) = Self.frozen[index]
    let data = try tiny.pack("labelled", count: 40)
    for method in ["supervised", "distil, teacher: previous, alpha: 0.5"] {
      let stage = try stage(
        "{name: \(method), classifier: {layers: [{width: 12}], deviation: 0.1}}",
        ["parameters=\(rules)", "optimizer={name: \(optimizer)}"])
      let stageRun = try stageRun(stage, data)
      let before = arrays(of: stageRun.method.encoder.state)
      let teacher = stageRun.teachers.first.map { arrays(of: $0.state) }
      try train(stageRun, steps: 7)
      for (name, values) in arrays(of: stageRun.method.encoder.state) {
        let bare = name.replacing("x/parameters/", with: "").replacing("x/statistics/", with: "")
        let isSame = values == before[name]
        #expect(isSame == isStill(bare), "\(method), \(bare)")
      }
      let isUntouched = stageRun.teachers.first.map { arrays(of: $0.state) } == teacher
      #expect(isUntouched)
    }
  }

  /// Gradients of frozen parts are neither computed nor sent: they are 0 here, and no sum over ranks holds them.
  @Test(arguments: frozen.indices) func frozenGradientsAreNotSent(_ index: Int) throws {
    let recorder = SumRecorder()
    let context = Context(communicator: recorder, arena: Arena(reserving: 1 << 26))
    let data = try tiny.pack("labelled", count: 40)
    let stage = try stage(
      "{name: supervised, classifier: {layers: [{width: 12}], deviation: 0.1}}",
      ["parameters=\(Self.frozen[index].rules)"])
    let method = stage.method.value.make(
      MethodSetting(
        encoder: stage.encoder.options(channels: 1), images: data.count, classes: 3,
        plan: RunPlan(stepsPerEpoch: 3, batch: 12, length: .steps(4)), rules: stage.parameters.map(\.rule),
        context: context))
    method.initialise()
    let gradients = method.encoder.gradients
    let layout = method.encoder.state.parameters.layout
    var pixels = (0..<6 * 100).map { Float($0 % 13) - 6 }
    pixels.withUnsafeMutableBufferPointer {
      let x = Tensor($0.baseAddress!, n: 6, h: 10, w: 10, c: 1)
      _ = method.gradients(
        MethodInput(
          step: 0, batch: 12, shares: [6, 6], rank: 0, samples: Array(0..<6), labels: [0, 1, 2, 0, 1, 2], views: [x]))
    }
    var sent = [Int](repeating: 0, count: gradients.count)
    for sum in recorder.sums {
      let first = sum.baseAddress! - gradients.data
      for i in first..<first + sum.count { sent[i] += 1 }
    }
    #expect(layout.entries.contains { !$0.trains } && layout.entries.contains(where: \.trains))
    for entry in layout.entries {
      let range = entry.slice.offset..<entry.slice.offset + entry.slice.count
      #expect(sent[range].allSatisfy { $0 == (entry.trains ? 1 : 0) }, "\(entry.name)")
      let values = UnsafeBufferPointer(start: gradients[entry.slice], count: entry.slice.count)
      #expect(values.contains { $0 != 0 } == entry.trains, "\(entry.name)")
    }
    withExtendedLifetime(context) {}
  }

  // MARK: Ranks and parts

  /// Losses, weights and statistics after three steps.
  private static func run(
    _ method: String, _ data: DataSet, changes: [String] = [], _ communicator: any Communicator
  ) throws -> (losses: [Double], weights: [Float], statistics: [Float]) {
    let text = ResumeTests.recipe(method)
    let recipe = try Recipe(
      yaml: text, from: "test", overrides: ["optimizer={name: sgd, rate: 0.05, momentum: 0.9}"] + changes)
    let stage = recipe.stages[0]
    let context = Context(communicator: communicator)
    let stageRun = try StageRun(
      stage, data: data, heldOut: nil, seed: 1, index: 0, teachers: Teacher.drawn(for: stage, data), context)
    stageRun.method.initialise()
    let loader = try stageRun.loader(from: 0, threads: 1)
    var losses: [Double] = []
    for step in 0..<3 {
      let batch = try loader.next()
      losses.append(stageRun.gradients(stageRun.input(batch)).loss)
      loader.release(batch)
      stageRun.update(step: step)
    }
    let state = stageRun.method.encoder.state
    return withExtendedLifetime(stageRun) {
      (losses, Array(state.parameters.buffer), Array(state.statistics.buffer))
    }
  }

  private func distance(_ a: [Float], _ b: [Float]) -> Double {
    guard a.count == b.count else { return .infinity }
    let difference = zip(a, b).map { $0 - $1 }
    return norm(difference, difference.count) / norm(b, b.count)
  }

  /// Sums are in another order, which gives a few roundings (2⁻²⁴) through twenty layers and three steps. Eleven images
  /// are unequal shares.
  @Test(arguments: ["supervised", "distil"], [2, 3, 4]) func ranksDoNotMatter(_ method: String, ranks: Int) throws {
    let data = try tiny.pack("labelled", count: 40)
    let changes = ["batch=11", "data={labels: 30}"]
    let one = try Self.run(method, data, changes: changes, SingleProcess())
    for found in try Ranks.run(ranks, { try Self.run(method, data, changes: changes, $0) }) {
      for (a, b) in zip(found.losses, one.losses) { #expect(abs(a - b) < 1e-5 * b, "\(found.losses), \(one.losses)") }
      #expect(distance(found.weights, one.weights) < 1e-5)
      #expect(distance(found.statistics, one.statistics) < 1e-5)
    }
  }

  /// Control: batch statistics of each rank alone are something else.
  @Test(arguments: ["supervised", "distil"]) func localStatisticsAreNoticed(_ method: String) throws {
    let data = try tiny.pack("labelled", count: 40)
    let one = try Self.run(method, data, SingleProcess())
    let local = try Self.run(method, data, changes: ["batchNorm={group: 6}"], SingleProcess())
    #expect(distance(local.weights, one.weights) > 1e-3)
  }

  /// A batch in parts is the whole batch, where no BN group is so small that it magnifies roundings.
  @Test(arguments: ["supervised", "distil"], [2, 4]) func partsAreTheWhole(_ method: String, parts: Int) throws {
    let data = try tiny.pack("labelled", count: 40)
    let groups = ["batch=32", "batchNorm={group: 8}"]
    let whole = try Self.run(method, data, changes: groups, SingleProcess())
    let divided = try Self.run(method, data, changes: groups + ["accumulate=\(parts)"], SingleProcess())
    for (a, b) in zip(divided.losses, whole.losses) { #expect(abs(a - b) < 1e-4 * b) }
    #expect(distance(divided.weights, whole.weights) < 1e-4)
    #expect(distance(divided.statistics, whole.statistics) < 1e-4)
  }
}
