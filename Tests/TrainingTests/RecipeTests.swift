import Engine
import Foundation
import Shards
import Testing
import Training

@Suite struct RecipeTests {
  /// The reference's warm-up reaches the rate in its last step.
  @Test func swavsWarmUpIncludesItsEnd() throws {
    #expect(try Recipe("swav-imagenet").stages[0].schedule.warmupEnds == .inclusive)
  }

  static let tiny = """
    encoder: {name: resnet18, width: 0.125, stem: small}
    views:
      - count: 2
        size: 16
        operations: [{crop: {scale: [0.3, 1], ratio: [0.75, 1.3333333333333333]}}, {flip: 0.5}]
    method: {name: simclr, temperature: 0.5, head: [features, 32]}
    optimizer: {name: sgd, rate: 0.06}
    batch: 32
    length: 10 steps
    """

  @Test(arguments: BuiltInRecipes.names) func builtInRecipesAreRead(_ name: String) throws {
    let recipe = try Recipe(name)
    let isPlan = try Recipe.text(of: name).contains("\nstages:")
    #expect(isPlan ? recipe.stages.count > 1 : recipe.stages.count == 1)
    for stage in recipe.stages { _ = try stage.method.value.validate(stage, images: 1_000_000) }
  }

  /// The resolved text reads back as the same recipe, to the last bit of every number.
  @Test(arguments: BuiltInRecipes.names) func resolvedTextIsAFixedPoint(_ name: String) throws {
    let once = try Recipe(name).yaml
    #expect(try Recipe(yaml: once, from: "resolved").yaml == once)
    if name.contains("imagenet") { #expect(once.contains("1.3333333333333333")) }
  }

  /// Recipes of methods published in TensorFlow or JAX have TensorFlow's jitter, others torchvision's.
  @Test(arguments: BuiltInRecipes.names.filter { $0.hasSuffix("-imagenet") })
  func publishedJitter(_ name: String) throws {
    let isTensorFlows = name.hasPrefix("simclr") || name.hasPrefix("byol")
    let colours = try Recipe(name).stages[0].views.flatMap(\.operations).compactMap { $0.body as? Colour }
    #expect(!colours.isEmpty)
    for colour in colours {
      #expect(colour.contrastBy == (isTensorFlows ? .channel : .image))
      #expect(colour.saturationBy == (isTensorFlows ? .hsv : .blend))
    }
  }

  /// The folder of a run can be given in the place of its recipe.
  @Test func aRunIsARecipe() throws {
    let run = FileManager.default.temporaryDirectory.appendingPathComponent("run-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: run, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: run) }
    #expect(throws: RecipeError.self) { try Recipe.text(of: run.path) }
    try Self.tiny.write(to: run.appendingPathComponent("recipe.yaml"), atomically: true, encoding: .utf8)
    #expect(try Recipe.text(of: run.path) == Self.tiny)
  }

  @Test(arguments: [
    ("bacth: 32", "did you mean `batch`?"),
    ("batch: many", "batch: expected a whole number"),
    ("batch: 1", "`batch` is 1; it must be 2 to 1048576 images"),
    ("length: 3 weeks", "write it as `100 epochs`"),
    ("method: {name: simclear}", "did you mean `simclr`?"),
    ("method: {name: simclr, temprature: 1}", "did you mean `temperature`?"),
    ("optimizer: {name: sgd, rate: -1}", "`rate` is -1.0; it must be above 0"),
    ("optimizer: {name: adamax, rate: 1}", "the table of optimizers has no `adamax`; did you mean `adam`?"),
    ("optimizer: {name: adam, rate: 1, beta1: 1}", "`beta1` is 1.0; it must be in [0, 1)"),
    ("optimizer: {name: adam, rate: 1, trust: 1}", "adam has no `trust`"),
    ("optimizer: {name: sgd, rate: 1, momentun: 1}", "sgd has no `momentun`; did you mean `momentum`?"),
    ("batch: 1:20", "batch: found `1:20`, which YAML reads as 80; write a plain decimal number"),
    ("batch: 0100", "batch: found `0100`"),
    ("batch: 0x10", "batch: found `0x10`, which YAML reads as 16; write a plain decimal number"),
    ("batch: 1_6", "batch: found `1_6`, which YAML reads as 16; write a plain decimal number"),
    ("batch: 0b1000", "batch: found `0b1000`, which YAML reads as 8"),
    ("batch: 0o17", "batch: found `0o17`, which YAML reads as 15"),
    ("optimizer: {name: sgd, rate: 0x1p3}", "optimizer.rate: found `0x1p3`, which YAML reads as 8.0"),
    ("optimizer: {name: sgd, rate: 1_0.5}", "optimizer.rate: found `1_0.5`, which YAML reads as 10.5"),
    ("optimizer: {name: sgd, rate: 1:30.5}", "optimizer.rate: found `1:30.5`"),
    ("log: 0 steps", "`log` is 0 steps; it must be above 0"),
    ("checkpoint: {every: 0%}", "checkpoint: `every` is 0%; it must be above 0"),
    ("views: [{count: 2, size: 16, operations: [{flip: 1.5}]}]", "flip is 1.5"),
    ("views: [{count: 3, size: 16}]", "simclr: views have counts [3]"),
    ("accumulate: 2", "another loss; use more ranks, or moco"),
    ("schedule: {name: cosine, wramup: 1 steps}", "a schedule has no `wramup`; did you mean `warmup`?"),
    ("monitor: {every: 1 steps, tets: 1}", "monitor has no `tets`; did you mean `test`?"),
    ("batchNorm: {group: 1}", "at least 2 images"),
    ("schedule: {name: step}", "needs `at`"),
    ("encoder: {name: resnet19}", "encoder.name"),
    ("encoder: {name: resnet18, width: 0.001}", "`width` is 0.001"),
    ("method: {name: memory-bank, negatives: 0}", "set loss: softmax"),
    ("method: {name: memory-bank, loss: triplet}", "method.loss"),
    ("method: {name: adco, bankMomentum: 1}", "`bankMomentum` is 1.0; it must be in [0, 1)"),
    ("method: {name: adco, negatives: 0}", "`negatives` is 0; it must be 1 to"),
    ("encoder: {name: resnet18, variant: e}", "encoder.variant"),
    ("encoder: {name: resnet18, selectiveKernels: 0.0625}", "but resnet18 has no bottlenecks"),
    ("encoder: {name: resnet50, selectiveKernels: 2}", "`selectiveKernels` is 2.0; it must be 0 (none) to 1"),
    ("method: {name: simclr, memory: {queue: 0}}", "`queue` is 0; it must be 1 to"),
    ("method: {name: simclr, memory: {momentum: 1}}", "`momentum` is 1.0; it must be in [0, 1)"),
    ("method: {name: simclr, memory: {lenght: 1}}", "simclr's memory"),
    ("checkpoint: {keep: 1}", "at least 2 are kept"),
    ("checkpoint: {keep: 9999999999999}", "`keep` is 9999999999999; it must be at most"),
    ("schedule: {name: exponential, every: 0 steps}", "`every` is 0 steps; it must be above 0"),
  ])
  func mistakesAreNamed(_ line: String, _ words: String) {
    let key = line.prefix { $0 != ":" }
    let yaml =
      Self.tiny.split(separator: "\n")
      .filter { !$0.hasPrefix(key + ":") && !(key == "views" && $0.hasPrefix(" ")) }
      .joined(separator: "\n") + "\n" + line
    let error = #expect(throws: RecipeError.self) { try Recipe(yaml: yaml, from: "test") }
    #expect(error?.description.contains(words) == true, "\(error?.description ?? "no error")")
    #expect(error?.description.hasPrefix("recipe test: ") == true)
  }

  /// Recipes written by earlier versions can be read.
  @Test func optionsOfAnotherOptimizerAreReadFromOldRuns() throws {
    let old = "optimizer={name: sgd, rate: 0.06, trust: 0.001, rateIn: inside, ratio: combined}"
    let text = try Recipe(yaml: Self.tiny, from: "test", overrides: [old]).yaml
    #expect(try text == Recipe(yaml: Self.tiny, from: "test").yaml)
  }

  /// Every optimizer is written with all its options and reads back unchanged.
  @Test(arguments: Optimizers.all.map { $0.name }) func optimizersAreResolved(_ name: String) throws {
    let recipe = try Recipe(yaml: Self.tiny, from: "test", overrides: ["optimizer={name: \(name), rate: 0.1}"])
    let text = try recipe.yaml
    #expect(try Recipe(yaml: text, from: "resolved").yaml == text)
    #expect(text.contains("decay: ") && text.contains("scaling: \(name == "adam" ? "none" : "linear")"), "\(text)")
  }

  /// The default of the head's initial weights depends on the optimizer: only with LARS are they as small as the
  /// reference's.
  @Test func theHeadGoesWithTheOptimizer() throws {
    func stage(_ optimizer: String, _ more: [String] = []) throws -> Stage {
      let overrides = ["optimizer={name: \(optimizer), rate: 0.1}"] + more
      return try Recipe(yaml: Self.tiny, from: "test", overrides: overrides).stages[0]
    }
    func deviation(_ stage: Stage) -> Double? { (stage.method.value as? SimCLR)?.headDeviation }
    #expect(try deviation(stage("lars")) == 0.01 && deviation(stage("sgd")) == nil && deviation(stage("adam")) == nil)
    let small = try stage("sgd", ["method.headDeviation=0.01"])
    #expect(try small.method.value.validate(small, images: 1000).contains { $0.contains("goes with LARS") })
    let large = try stage("sgd", ["method.headDeviation=0.05"])
    #expect(try large.method.value.validate(large, images: 1000).isEmpty)
  }

  /// Every file of the folder is in the table, with a description.
  @Test func theTableOfRecipesIsTheFolder() throws {
    let folder = #filePath.components(separatedBy: "/Tests/")[0] + "/Sources/Training/Recipes"
    let files = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".yaml") }
    #expect(BuiltInRecipes.names == files.map { String($0.dropLast(5)) }.sorted())
    for recipe in BuiltInRecipes.all {
      #expect(recipe.description.count > 20 && !recipe.description.contains("\n"), "\(recipe.name)")
    }
    #expect(BuiltInRecipes["simclr-v1-fashion"]?.description.hasPrefix("SimCLR on Fashion-MNIST") == true)
  }

  @Test func overridesReachEveryDepth() throws {
    let recipe = try Recipe(
      yaml: Self.tiny, from: "test",
      overrides: [
        "optimizer.rate=0.5", "views.0.size=20", "batchNorm={group: 8}", "views.0.operations.1.flip=0.25", "seed=7",
      ])
    #expect(recipe.stages[0].optimizer.rate == 0.5 && recipe.stages[0].views[0].size == 20 && recipe.seed == 7)
    #expect(recipe.stages[0].batchNorm.groups == .group(images: 8))
    #expect(try recipe.yaml.contains("flip: 0.25"))
    #expect(throws: RecipeError.self) { try Recipe(yaml: Self.tiny, from: "test", overrides: ["views.3.size=1"]) }
    #expect(throws: RecipeError.self) { try Recipe(yaml: Self.tiny, from: "test", overrides: ["nonsense"]) }
  }

  /// An optional group of options is in the resolved text if it is set.
  @Test func memoryIsResolved() throws {
    let recipe = try Recipe("simclr-v2-imagenet", overrides: ["method.memory={momentum: 0.99}"])
    let text = try recipe.yaml
    #expect(text.contains("memory: {queue: 65536, momentum: 0.99}"), "\(text)")
    #expect(try Recipe(yaml: text, from: "resolved").yaml == text)
    let simclr = try #require(recipe.stages[0].method.value as? SimCLR)
    #expect(try simclr.validate(recipe.stages[0], images: 1_000_000) == [])
    #expect(try simclr.validate(recipe.stages[0], images: 1000).contains { $0.contains("about 32 times") })
    var grouped = recipe.stages[0]
    grouped.batchNorm = BatchNormRecipe(.group(images: 8))
    #expect(try SimCLR().validate(grouped, images: 1_000_000).contains { $0.contains("fixed BN groups leaks") })
    #expect(
      recipe.stages[0].encoder
        == EncoderRecipe(
          .resnet50, variant: .d, selectiveKernels: 0.0625, zeroInitLastBN: true, initialisation: .varianceScaling))
  }

  @Test func stagesOverrideWhatStandsAtTheTop() throws {
    let recipe = try Recipe(
      yaml: Self.tiny
        + "\nstages:\n- {name: first}\n- {name: second, length: 20 steps, method: {name: moco, queue: 64}}",
      from: "test")
    #expect(recipe.stages.map(\.name) == ["first", "second"])
    #expect(recipe.stages.map(\.length) == [.steps(10), .steps(20)])
    #expect(recipe.stages[0].method.value is SimCLR && recipe.stages[1].method.value is MoCo)
  }

  @Test func banksAreHeldAgainstTheData() throws {
    var stage = try Recipe(yaml: Self.tiny, from: "test").stages[0]
    func refusal(_ method: any MethodRecipe) -> String {
      do { return try method.validate(stage, images: 1000).joined(separator: "; ") } catch { return "\(error)" }
    }
    var bank = MemoryBank()
    var adco = AdCo()
    #expect(refusal(bank).contains("count 1"))
    #expect(refusal(adco).contains("one BN group leaks"))
    #expect(
      refusal(adco).contains("takes 2048 steps of 32 images, and the run has 10")
        && refusal(adco).contains("about 65 of each"))
    stage.batchNorm = BatchNormRecipe(.shuffle(images: 8))
    adco.negatives = 64
    #expect(refusal(adco) == "")
    stage.views.append(stage.views[0])
    #expect(refusal(adco) == "")
    adco.symmetric = true
    #expect(refusal(adco).contains("no keys of their own"))
    stage.views = [stage.views[0]]
    stage.views[0].count = 1
    #expect(refusal(bank).contains("one encoder"))
    stage.batchNorm = BatchNormRecipe(.global)
    #expect(refusal(bank).contains("each comes up about 4 times"))
    bank.negatives = 100
    #expect(refusal(bank) == "")
    stage.accumulate = 2
    #expect(refusal(bank).contains("at once") && refusal(adco).contains("count 2"))
  }

  @Test func whatIsNotExactIsRefusedInWords() throws {
    var stage = try Recipe(yaml: Self.tiny, from: "test").stages[0]
    stage.accumulate = 2
    let error = #expect(throws: RecipeError.self) { try SimCLR().validate(stage, images: 1000) }
    #expect(error?.description.contains("another loss") == true)
    stage.accumulate = 1
    #expect(try MoCo().validate(stage, images: 1_000_000).contains { $0.contains("leaks") })
    stage.batchNorm = BatchNormRecipe(.shuffle(images: 8))
    #expect(try MoCo().validate(stage, images: 1_000_000).isEmpty)
    // A batch of 32 in shuffled groups of 20 is one group.
    stage.batchNorm = BatchNormRecipe(.shuffle(images: 20))
    #expect(try MoCo().validate(stage, images: 1_000_000).contains { $0.contains("one BN group leaks") })
    stage.batchNorm = BatchNormRecipe(.shuffle(images: 8))
    #expect(try MoCo().validate(stage, images: 1000).contains { $0.contains("shorter queue") })
  }
}

@Suite struct ScheduleTests {
  let plan = RunPlan(stepsPerEpoch: 10, batch: 32, length: .epochs(10))

  private func rates(_ schedule: Schedule, _ steps: [Int]) -> [Double] {
    steps.map { schedule.rate(step: $0, base: 2, scale: 4, plan) }
  }

  @Test func shapes() {
    #expect(rates(Schedule(.constant), [0, 99]) == [2, 2])
    #expect(rates(Schedule(.constant, warmup: .epochs(1)), [0, 5, 10]) == [0, 1, 2])
    #expect(rates(Schedule(.cosine), [0, 50]) == [2, 1])
    #expect(abs(rates(Schedule(.cosine, final: 0.1), [100])[0] - 0.4) < 1e-12)
    #expect(rates(Schedule(.cosine, per: .epoch), [50, 59]) == [1, 1])
    #expect(
      rates(Schedule(.step, at: [.epochs(6), .epochs(8)]), [59, 60, 79]).map { ($0 * 1000).rounded() } == [
        2000, 200, 200,
      ])
    #expect(rates(Schedule(.exponential, every: .steps(25), factor: 0.5), [24, 25, 99]) == [2, 1, 0.25])
  }

  /// facebookresearch/swav precomputes its warm-up as `np.linspace(0.3, 4.8, 14)`, whose last value is 4.8.
  @Test func anInclusiveWarmUpReachesItsEnd() {
    let plan = RunPlan(stepsPerEpoch: 7, batch: 4096, length: .epochs(10))
    func rates(_ warmup: Length, _ ends: Schedule.WarmupEnd) -> [Double] {
      let schedule = Schedule(.cosine, warmup: warmup, start: 0.3, warmupEnds: ends)
      return (0..<16).map { schedule.rate(step: $0, base: 4.8, scale: 1, plan) }
    }
    let inclusive = rates(.epochs(2), .inclusive)
    let exclusive = rates(.epochs(2), .exclusive)
    #expect(inclusive[0] == 0.3 && abs(inclusive[6] - 2.376923076923077) < 1e-12)
    #expect(abs(inclusive[13] - 4.8) < 1e-12 && abs(exclusive[13] - 4.478571428571429) < 1e-12)
    #expect(inclusive[14] == 4.8 && inclusive[14...] == exclusive[14...])
    #expect(rates(.steps(1), .inclusive)[0] == 0.3)
  }

  @Test func aWarmUpAsLongAsTheRunIsSaid() {
    #expect(Schedule(.cosine, warmup: .epochs(9)).warnings(plan).isEmpty)
    let warnings = Schedule(.cosine, warmup: .epochs(20)).warnings(plan)
    #expect(warnings.count == 1 && warnings[0].contains("is 20 epochs, 200 steps, but the run has 100"))
  }

  /// Reference values of facebookresearch/moco's rule, lr·½(1 + cos(π e/E)), at epochs of 200.
  @Test func cosineByEpochIsTheReferences() {
    let plan = RunPlan(stepsPerEpoch: 7, batch: 256, length: .epochs(200))
    let schedule = Schedule(.cosine, per: .epoch)
    for (epoch, rate) in [(0, 0.03), (50, 0.02560660171779821), (100, 0.015), (199, 1.8505127750911841e-06)] {
      #expect(abs(schedule.rate(step: epoch * 7 + 3, base: 0.03, scale: 1, plan) - rate) < 1e-15)
    }
  }

  @Test(arguments: [
    ("12 epochs", Length.epochs(12)), ("500", .steps(500)), ("50_000 images", .images(50000)), ("2.5 %", .percent(2.5)),
  ])
  func lengthsAreRead(_ text: String, _ length: Length) {
    #expect(Length(text) == length)
    #expect(Length(length.description) == length)
  }

  @Test(arguments: ["", "-1 steps", "1.5 steps", "ten epochs", "1e99 steps", "3 weeks"]) func otherLengthsAreNot(
    _ text: String
  ) {
    #expect(Length(text) == nil)
  }
}
