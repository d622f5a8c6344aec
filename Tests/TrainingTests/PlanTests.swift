import Engine
import Foundation
import Ranks
import Shards
import Testing
import Training

/// Runs of several stages: what is carried over, how they resume, and what is refused before step 0.
@Suite struct PlanTests {
  static let two = "stages: [{name: first}, {name: second, \(NoiseRun.moco)}]"
  static let three = """
    stages:
    - {name: first}
    - {name: second, \(NoiseRun.moco), length: 5 steps}
    - {name: third, start: {from: stage first, carry: [encoder, head]}}
    """

  /// The encoder is carried over bit by bit, and the head is drawn anew.
  @Test func theNextStageStartsWithTheEncoder() throws {
    let tiny = try NoiseRun()
    let request = try tiny.request(Self.two)
    #expect(try tiny.train(request, stopAfter: 4) == .stopped)
    #expect(try Checkpoint.list(tiny.run) == [3, 4])
    let checkpoint = tiny.run.checkpoints + "/" + Checkpoint.name(step: 4)
    let context = Context()
    let plan = try Plan(request, context)
    let stageRun = try plan.make(1, context)
    let fresh = try plan.make(1, context)
    fresh.method.initialise()
    let source = try stageRun.start(from: plan.stages[1].start, SingleProcess()) { _ in checkpoint }
    #expect(source == checkpoint)
    // The first stage's network from its checkpoint.
    let before = try plan.make(0, context)
    try Checkpoint.read(before.method.saved, from: checkpoint)
    func values(_ stageRun: StageRun) -> [String: [UInt8]] {
      let state = stageRun.method.encoder.state.saved("x")
      return Dictionary(uniqueKeysWithValues: state.map { ($0.name, Array($0.bytes)) })
    }
    let (old, new, drawn) = (values(before), values(stageRun), values(fresh))
    for (name, bytes) in new {
      let isEncoder = name.contains("/encoder.")
      #expect(bytes == (isEncoder ? old[name] : drawn[name]), "\(name)")
      if isEncoder, name.contains("conv") { #expect(bytes != drawn[name], "\(name)") }
    }
    #expect(new.keys.contains { !$0.contains("/encoder.") })
    // A key encoder starts as a copy of the query encoder.
    let keys = stageRun.method.saved.filter { $0.name.hasPrefix("key/parameters/encoder.") }
    #expect(!keys.isEmpty)
    for key in keys {
      let name = "x" + key.name.dropFirst("key".count)
      #expect(Array(key.bytes) == new[name], "\(key.name)")
    }
  }

  /// A run of three stages that is stopped after any step and resumed ends with the same bits in all stages, and with
  /// each step once in its metrics.
  @Test func aRunThatIsStoppedAnywhereEndsTheSame() throws {
    let whole = try NoiseRun()
    #expect(try whole.train(whole.request(Self.three)) == .complete)
    #expect(try Checkpoint.list(whole.run) == [4, 9, 12, 13])
    let metrics = try whole.metrics()
    let steps = metrics.filter { $0["loss"] != nil }
    #expect(steps.map(\.step) == Array(1...13))
    #expect(steps.map { $0["stage"] } == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2])
    for stop in 1...12 {
      let tiny = try NoiseRun()
      #expect(try tiny.train(tiny.request(Self.three), stopAfter: stop) == .stopped)
      #expect(try Checkpoint.list(tiny.run).last == stop && !tiny.run.isComplete)
      #expect(try tiny.train(tiny.request(Self.three)) == .complete, "\(stop)")
      #expect(tiny.run.isComplete)
      for step in [4, 9, 13] { #expect(try tiny.arrays(step) == whole.arrays(step), "\(stop), \(step)") }
      #expect(try tiny.metrics() == metrics, "\(stop)")
    }
  }

  /// The last checkpoint of each stage is kept, and the newest of a stage can be selected.
  @Test func everyStageCanBeFound() throws {
    let tiny = try NoiseRun()
    try tiny.train(tiny.request(Self.three, ["length=8 steps"]))
    #expect(try Checkpoint.list(tiny.run) == [8, 13, 19, 21])
    for (stage, step) in [8, 13, 21].enumerated() {
      let found = try #require(Checkpoint.newest(tiny.run, stage: stage, replicatedOnly: true).manifest)
      #expect(found.step == step && found.stage == stage)
    }
    #expect(try Checkpoint.newest(tiny.run, stage: 7).manifest == nil)
    // Evaluation and export select a stage by name.
    #expect(try FrozenEncoder(run: tiny.run.path).step == 21)
    for (stage, step) in [("first", 8), ("second", 13), ("third", 21)] {
      let encoder = try FrozenEncoder(run: tiny.run.path, .stage(stage))
      #expect(encoder.step == step && encoder.stage.name == stage)
    }
    let unknown = #expect(throws: RunError.self) { try FrozenEncoder(run: tiny.run.path, .stage("secnd")) }
    #expect(unknown?.description.contains("did you mean `second`? its stages are first, second, third") == true)
    let report = try #require(tiny.text("report.html"))
    #expect(report.contains("2: third, starts from stage first (encoder, head)"))
    #expect(RunFacts(folder: tiny.run)?.table.map(\.name).first == "stage")
  }

  /// Two stages of the same recipe draw other weights and other views.
  @Test func everyStageHasDrawsOfItsOwn() throws {
    let tiny = try NoiseRun()
    try tiny.train(tiny.request("stages: [{name: a}, {name: b, start: {from: nothing}}]"))
    let losses = try tiny.metrics().filter { $0["loss"] != nil }.map { $0["loss"]! }
    #expect(losses.count == 8 && losses[0] != losses[4])
    // The first stage equals a run of it alone.
    let alone = try NoiseRun()
    try alone.train(alone.request())
    #expect(try alone.arrays(4) == tiny.arrays(4))
  }

  @Test func aStageHasItsOwnDataAndStart() throws {
    let tiny = try NoiseRun()
    try tiny.write("others", images: 30, seed: 9)
    try tiny.train(tiny.request())
    let source = tiny.path + "/source"
    try FileManager.default.moveItem(atPath: tiny.run.path, toPath: source)
    let stages = """
      stages:
      - {name: first, data: {set: others}, start: {from: run \(source)}}
      - {name: second, start: {from: previous, carry: [head, encoder]}, length: 2 epochs}
      """
    let data = ["data": tiny.path + "/data", "others": tiny.path + "/others"]
    try tiny.train(tiny.request(stages, data: data))
    #expect(tiny.said.contains { $0.hasPrefix("Stage first starts with encoder of \(source)/checkpoints/step-0") })
    let first = try #require(Checkpoint.newest(tiny.run, stage: 0).manifest)
    let second = try #require(Checkpoint.newest(tiny.run).manifest)
    #expect(first.data == tiny.path + "/others" && first.images == 30)
    #expect(second.data == tiny.path + "/data" && second.images == 40)
    // Epochs are of the stage's own data.
    #expect(second.stageSteps == [4, 6])
    // The other run did not change this run's recipe, and resuming needs its data too.
    let missing = try #require(tiny.refusal(tiny.request(stages)))
    #expect(missing.contains("stage first reads the data set `others`, which was not given"))
    #expect(missing.contains("add --data others=PATH"))
    #expect(tiny.run.isComplete)
  }

  @Test func anEncoderFromAFileStartsAStage() throws {
    let tiny = try NoiseRun()
    let context = Context()
    let plan = try Plan(try tiny.request(), context)
    let source = try plan.make(0, context)
    source.method.encoder.state.initialise(seed: 77)
    let file = tiny.path + "/encoder.safetensors"
    try Weights.export(source.method.encoder.state, metadata: [:], to: file)
    var request = try tiny.request()
    try request.start(from: file)
    let started = try Plan(request, context).make(0, context)
    _ = try started.start(from: .file(file), SingleProcess()) { _ in "" }
    let name = "x/parameters/encoder.conv1.weight"
    func bytes(_ run: StageRun) -> [UInt8]? {
      run.method.encoder.state.saved("x").first { $0.name == name }.map { Array($0.bytes) }
    }
    #expect(bytes(started) != nil && bytes(started) == bytes(source))
    #expect(throws: RecipeError.self) { try request.start(from: file) }
  }

  /// Errors of a file name the file, instead of failing later in training.
  @Test func aFileWithoutWeightsIsRefused() throws {
    let tiny = try NoiseRun()
    let file = tiny.path + "/encoder.safetensors"
    let start = "start: {from: file \(file)}"
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 102\n"
    try pointer.write(toFile: file, atomically: false, encoding: .utf8)
    let lfs = try #require(tiny.refusal(tiny.request(start)))
    #expect(lfs.contains("it is a Git LFS pointer") && lfs.contains("git lfs pull"), "\(lfs)")
    let context = Context()
    let state = try Plan(try tiny.request(), context).make(0, context).method.encoder.state
    state.initialise(seed: 1)
    let slice = try #require(state.parameters.layout.entry("encoder.layer2.0.conv1.weight")).slice
    state.parameters[slice][3] = .nan
    // The file exists by then; it is refused when it is read back.
    #expect(throws: RunError.self) { try Weights.export(state, metadata: [:], to: file) }
    let wild = try #require(tiny.refusal(tiny.request(start)))
    #expect(wild.contains("`layer2.0.conv1.weight` holds nan at element"), "\(wild)")
    #expect(!FileManager.default.fileExists(atPath: tiny.run.path))
  }

  struct Refused: Sendable, CustomTestStringConvertible {
    let stages: String
    let words: [String]
    var data = ["data"]
    var testDescription: String { words[0] }
  }

  static let refused = [
    Refused(stages: "stages: [{name: a}, {name: a}]", words: ["two stages are named `a`", "give each a name"]),
    Refused(stages: "stages: [{}, {}]", words: ["two stages are named `pretrain`"]),
    Refused(
      stages: "data: {set: photos}", words: ["reads the data set `photos`", "add --data photos=PATH"]),
    Refused(
      stages: "data: {set: photo}", words: ["did you mean `photos`?"], data: ["photos"]),
    Refused(
      stages: "", words: ["--data gives a data set `photos`, which no stage reads", "the stages read data"],
      data: ["data", "photos"]),
    Refused(
      stages: "stages: [{name: first}, {name: b, start: {from: stage frist}}]",
      words: ["stage b: ", "start.from is `stage frist`", "did you mean `first`?"]),
    Refused(
      stages: "stages: [{name: a, start: {from: stage b}}, {name: b}]",
      words: ["stage a: ", "no stage of that name comes before this one", "it is the first"]),
    Refused(
      stages: "stages: [{name: a}, {name: b, start: {carry: [encodr]}}]",
      words: ["start.carry: this stage's network has no part `encodr`; did you mean `encoder`?", "are encoder, head"]),
    Refused(
      stages: "stages: [{name: a}, {name: b, encoder: {name: resnet18, width: 0.125, stem: small}}]",
      words: ["stage b: start: encoder.", "has shape", "what is carried over must be the same"]),
    Refused(
      stages: "stages: [{name: a}, {name: b, \(NoiseRun.moco), start: {carry: [encoder, head]}}]",
      words: ["stage b: start: head."]),
    Refused(
      stages: "start: {from: run nowhere}", words: ["there is no checkpoint in nowhere/checkpoints"]),
    Refused(stages: "start: {from: file nowhere}", words: ["nowhere", "No such file or directory"]),
    Refused(
      stages: "start: {from: file x, carry: [encoder, head]}", words: ["which holds an encoder alone"]),
    Refused(
      stages: "stages: [{name: a}, {name: b, data: {set: colour}}]",
      words: ["encoder.conv1.weight has shape [3, 3, 3,", "and has shape [3, 3, 1,"], data: ["data", "colour"]),
    Refused(
      stages: "stages: [{name: a}, {name: b, batch: 1000}]", words: ["stage b: batch is 1000", "take a smaller batch"]),
  ]

  static let refusedRules = [
    Refused(
      stages: "parameters: [{part: encodr, trains: false}]",
      words: ["parameters[0]: this stage's network has no part `encodr`; did you mean `encoder`?", "its parts are"]),
    Refused(
      stages: "parameters: [{part: encoder.layer5, trains: false}]", words: ["did you mean `encoder.layer"]),
    Refused(
      stages: "parameters: [{part: encoder.conv1, kinds: [bias], rate: 2}]",
      words: ["parameters[0]: part `encoder.conv1` has no parameters of its kinds"]),
    Refused(stages: "parameters: [{trains: false}]", words: ["parameters: by these rules nothing trains"]),
  ]

  /// Invalid rules are refused when the recipe is read.
  @Test(arguments: [
    ("{part: encoder}", "says nothing: give it `trains`, `rate`, `decay` or `adapts`"),
    ("{part: encoder, rate: -1}", "`rate` is -1.0; it must be 0 or more"),
    ("{kinds: [], trains: false}", "`kinds` is empty"),
    ("{kinds: [weights], trains: false}", "it is `weights`; did you mean `weight`?"),
    ("{part: encoder, train: false}", "did you mean `trains`?"),
  ]) func rulesAreChecked(rule: String, words: String) throws {
    let error = #expect(throws: RecipeError.self) {
      try Recipe(yaml: NoiseRun.tiny + "parameters: [\(rule)]", from: "test")
    }
    #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
  }

  /// An encoder frozen by rules keeps its bits through a stage, including statistics; the head changes.
  @Test func aFrozenEncoderGoesThroughAStage() throws {
    let tiny = try NoiseRun()
    let frozen = "{name: second, start: {carry: [encoder, head]}, parameters: [{part: encoder, trains: false}]}"
    try tiny.train(tiny.request("stages: [{name: first}, \(frozen)]"))
    // Each array's name and checksum.
    let before = Set(try tiny.arrays(4))
    let after = Set(try tiny.arrays(8))
    func share(_ arrays: Set<String>, of part: String) -> Set<String> {
      arrays.filter { $0.contains("/parameters/\(part).") || $0.contains("/statistics/\(part).") }
    }
    #expect(share(before, of: "encoder").count > 20 && share(before, of: "head").count > 2)
    #expect(share(before, of: "encoder") == share(after, of: "encoder"))
    #expect(share(before, of: "head").isDisjoint(with: share(after, of: "head")))
    #expect(tiny.said.contains { $0.contains("parameters, heads included") })
  }

  /// When a request is refused, nothing has been written, not even the run's folder.
  @Test(arguments: refused + refusedRules) func whatCannotWorkIsRefusedBeforeStepZero(_ refused: Refused) throws {
    let tiny = try NoiseRun()
    try tiny.write("photos", images: 20, seed: 5)
    try tiny.write("colour", images: 20, channels: 3, seed: 6)
    let data = Dictionary(uniqueKeysWithValues: refused.data.map { ($0, tiny.path + "/" + $0) })
    let text = try #require(tiny.refusal(tiny.request(refused.stages, data: data)))
    for words in refused.words { #expect(text.contains(words), "\(text)") }
    #expect(!FileManager.default.fileExists(atPath: tiny.run.path))
  }

  @Test func startsAreWrittenAsWords() throws {
    for text in ["nothing", "previous", "stage a b", "run runs/first", "file a.safetensors"] {
      #expect(StageStart.Source(text)?.description == text)
    }
    for text in ["", "stage", "stage ", "nothing at all", "else where"] { #expect(StageStart.Source(text) == nil) }
    let recipe = try Recipe(yaml: NoiseRun.tiny + Self.three, from: "test")
    #expect(recipe.stages.map(\.start.from) == [.nothing, .previous, .stage("first")])
    #expect(try Recipe(yaml: recipe.yaml, from: "resolved").yaml == recipe.yaml)
    #expect(throws: RecipeError.self) { try Recipe(yaml: NoiseRun.tiny + "start: {carry: []}", from: "test") }
  }

  @Test func dataSetsAreNamed() throws {
    #expect(try PretrainRequest.named(["d", "b=e/f"], option: "--data") == ["data": "d", "b": "e/f"])
    #expect(try PretrainRequest.named(["x/a=b"], option: "--data") == ["data": "x/a=b"])
    for wrong in [["a", "b"], ["a=b", "a=c"], ["=b"], ["a="]] {
      #expect(throws: RecipeError.self, "\(wrong)") { try PretrainRequest.named(wrong, option: "--data") }
    }
  }

  // MARK: Lengths

  /// The length of a stage cannot be changed after a later stage has begun.
  @Test(arguments: ["6 steps", "2 steps"]) func anEarlierStageKeepsItsLength(_ length: String) throws {
    let tiny = try NoiseRun()
    try tiny.train(tiny.request(Self.two), stopAfter: 6)
    let before = try tiny.metrics()
    let changed = try tiny.request("stages: [{name: first, length: \(length)}, {name: second, \(NoiseRun.moco)}]")
    let text = try #require(tiny.refusal(changed))
    #expect(text.contains("stage first of run") && text.contains("ended after 4 steps"), "\(text)")
    #expect(text.contains("set it back to 4 steps"))
    #expect(try tiny.metrics() == before && Checkpoint.list(tiny.run).last == 6)
    #expect(try tiny.train(tiny.request(Self.two)) == .complete)
  }

  /// The last stage may become longer, and a stage may be added.
  @Test func theEndCanBeMovedOn() throws {
    let tiny = try NoiseRun()
    try tiny.train(tiny.request(Self.two))
    try tiny.train(tiny.request("stages: [{name: first}, {name: second, \(NoiseRun.moco), length: 6 steps}]"))
    #expect(try Checkpoint.list(tiny.run).last == 10 && tiny.run.isComplete)
    let more = "stages: [{name: first}, {name: second, \(NoiseRun.moco), length: 6 steps}, {name: third}]"
    try tiny.train(tiny.request(more))
    #expect(try Checkpoint.list(tiny.run).last == 14 && tiny.run.isComplete)
    #expect(try tiny.metrics().filter { $0["loss"] != nil }.map(\.step) == Array(1...14))
    let fewer = try #require(tiny.refusal(tiny.request()))
    #expect(fewer.contains("is in stage 3, and the recipe has only 1"), "\(fewer)")
    #expect(tiny.run.isComplete)
  }
}
