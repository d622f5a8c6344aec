import Engine
import Foundation
import Ranks
import Shards
import Testing
import Training

/// What a stage may take over beside its network, how it is judged at its end, what it will take, and when another
/// recipe is refused.
@Suite struct StagesTests {
  private static func stages(carry: String, _ method: String = NoiseRun.moco) -> String {
    "stages: [{name: first, \(method)}, {name: second, \(method), start: {from: previous, carry: [\(carry)]}}]"
  }

  private func state(_ stageRun: StageRun, of prefix: String) -> [String: [UInt8]] {
    let arrays = stageRun.method.saved.filter { $0.name.hasPrefix(prefix) }
    return Dictionary(uniqueKeysWithValues: arrays.map { ($0.name, Array($0.bytes)) })
  }

  /// A key encoder that is carried over is the former key encoder; else it is a copy of the query encoder.
  @Test(arguments: [true, false]) func aKeyEncoderMayBeCarriedOver(isCarried: Bool) throws {
    let tiny = try NoiseRun()
    let request = try tiny.request(Self.stages(carry: isCarried ? "encoder, head, key" : "encoder, head"))
    #expect(try tiny.train(request, stopAfter: 4) == .stopped)
    let checkpoint = tiny.run.checkpoints + "/" + Checkpoint.name(step: 4)
    let context = Context()
    let plan = try Plan(request, context)
    let before = try plan.make(0, context)
    try Checkpoint.read(before.method.saved, from: checkpoint)
    let second = try plan.make(1, context)
    _ = try second.start(from: plan.stages[1].start, SingleProcess()) { _ in checkpoint }
    let formerKey = state(before, of: "key/")
    let formerQuery = state(before, of: "query/parameters/encoder.")
    let found = state(second, of: "key/")
    #expect(!found.isEmpty && (found == formerKey) == isCarried)
    for (name, bytes) in formerQuery {
      let key = "key" + name.dropFirst("query".count)
      #expect((found[key] == bytes) == (!isCarried || formerKey[key] == bytes), "\(key)")
    }
    // The queue is drawn anew.
    #expect(state(second, of: "queue") != state(before, of: "queue"))
  }

  /// What the stage before has not, or has in another shape, is refused before step 0.
  @Test func aKeyEncoderThatIsNotThereIsRefused() throws {
    let tiny = try NoiseRun()
    let stages = """
      stages:
      - {name: first}
      - {name: second, \(NoiseRun.moco), start: {from: previous, carry: [encoder, key]}}
      """
    let refusal = try #require(tiny.refusal(tiny.request(stages)))
    #expect(refusal.contains("start: key/"), "\(refusal)")
    #expect(refusal.contains("is not in stage first"), "\(refusal)")
  }

  /// A stage that names a data set is judged on it at its end, once, wherever the run was stopped.
  @Test(arguments: [nil, 3, 4, 5]) func aStageIsJudgedAtItsEnd(stop: Int?) throws {
    let tiny = try NoiseRun()
    try tiny.write("test", images: 20, seed: 8)
    var request = try tiny.request("stages: [{name: first, evaluate: data}, {name: second, evaluate: data}]")
    request.heldOut = ["data": tiny.path + "/test"]
    if let stop { #expect(try tiny.train(request, stopAfter: stop) == .stopped) }
    #expect(try tiny.train(request) == .complete)
    let records = try RunFiles.evaluations(of: tiny.run.path)
    #expect(records.map(\.subject.stageName) == ["first", "second"] && records.map(\.subject.step) == [4, 8])
    for record in records { #expect(record.results.map(\.features) == ["learned", "learned", "learned"]) }
    #expect(try #require(tiny.text("report.html")).contains("After step 4 (stage 0, first)"))
  }

  @Test(arguments: [
    ("evaluate: data", "evaluate is data, which has no held-out images: add --test data=PATH"),
    ("evaluate: others", "reads the data set `others`, which was not given"),
  ]) func whatCannotJudgeIsRefused(_ field: String, words: String) throws {
    let tiny = try NoiseRun()
    let refusal = try #require(tiny.refusal(tiny.request("stages: [{name: first, \(field)}]")))
    #expect(refusal.contains(words), "\(refusal)")
  }

  /// A run that is started or learned from is not the folder to train in: nothing of it is moved.
  @Test(arguments: ["start: {from: run RUN, carry: [encoder]}", "method: {name: distil, teacher: run RUN}"])
  func theOwnFolderIsNoSource(_ field: String) throws {
    let tiny = try NoiseRun()
    try tiny.train(tiny.request())
    let view = "views: [{count: 1, size: 8, operations: [{normalise: dataset}]}]"
    let more = field.contains("distil") ? ", \(view)" : ""
    let stage = field.replacing("RUN", with: tiny.path + "/../" + tiny.path.split(separator: "/").last! + "/run")
    var request = try tiny.request("stages: [{name: only, \(stage)\(more)}]")
    request.restarts = true
    let refusal = try #require(tiny.refusal(request))
    #expect(refusal.contains("which is also the folder to train in: give another --run"), "\(refusal)")
    #expect(try Checkpoint.list(tiny.run).last == 4)
  }

  /// Other data for a stage that has ended are refused: the present stage began from what it learned.
  @Test func otherDataOfAnEndedStageAreRefused() throws {
    let tiny = try NoiseRun()
    try tiny.write("more", images: 40, seed: 5)
    let stages = "stages: [{name: first}, {name: second, data: {set: more}}]"
    func request(_ first: String) throws -> PretrainRequest {
      try tiny.request(stages, data: ["data": tiny.path + "/" + first, "more": tiny.path + "/more"])
    }
    #expect(try tiny.train(request("data"), stopAfter: 5) == .stopped)
    try tiny.write("other", images: 40, seed: 6)
    let refusal = try #require(tiny.refusal(request("other")))
    #expect(refusal.contains("stage first has ended: ") && refusal.contains("was trained on other data"), "\(refusal)")
    #expect(try tiny.train(request("data")) == .complete)
  }

  /// Another recipe for a stage that has ended is refused, stage by stage; what decides nothing may change.
  @Test func anEndedStageKeepsItsRecipe() throws {
    let tiny = try NoiseRun()
    let stages = "stages: [{name: first}, {name: second}, {name: third}]"
    #expect(try tiny.train(tiny.request(stages), stopAfter: 6) == .stopped)
    let changed = stages.replacing("{name: first}", with: "{name: first, optimizer: {rate: 0.25}}")
    let refusal = try #require(tiny.refusal(tiny.request(changed)))
    #expect(refusal.contains("stage first of run \(tiny.run.path) has ended"), "\(refusal)")
    #expect(refusal.contains("optimizer.rate: 0.5 → 0.25") && refusal.contains("--force"), "\(refusal)")
    #expect(try Checkpoint.list(tiny.run).last == 6)
    // Of the present stage and of those to come it is explained.
    let later = stages.replacing("{name: third}", with: "{name: third, optimizer: {rate: 0.25}}")
    let told = stages.replacing("{name: first}", with: "{name: first, log: 2 steps}")
    #expect(try tiny.train(tiny.request(told), stopAfter: 1) == .stopped)
    #expect(try tiny.train(tiny.request(later)) == .complete)
    #expect(tiny.said.contains { $0.contains("Changed since the checkpoint: stages.2.optimizer.rate: 0.5 → 0.25") })
  }

  /// Before step 0 a plan says what each stage takes; its disk is that of all checkpoints that are there at once.
  @Test func aPlanIsCosted() throws {
    let tiny = try NoiseRun()
    let request = try tiny.request("stages: [{name: first}, {name: second, length: 40 steps}]")
    let plan = try Plan(request, Context())
    let costs = plan.stages.map(\.cost)
    #expect(costs.map(\.steps) == [4, 40])
    let seconds = costs.compactMap(\.seconds)
    #expect(seconds.count == 2 && abs(seconds[1] / seconds[0] - 10) < 1e-6 && seconds[0] > 0)
    #expect(plan.diskBytes == costs[0].checkpoint + 3 * costs[1].checkpoint)
    try tiny.train(request)
    #expect(tiny.said.contains { $0.hasPrefix("Stage 1 second: simclr on ") && $0.contains("40 steps, about 1 s") })
    #expect(tiny.said.contains { $0.hasPrefix("All stages: about ") })
  }

  @Test(arguments: [
    (3.2, "4 s"), (89, "89 s"), (90, "2 minutes"), (1200, "20 minutes"), (7200, "2 hours"), (9000, "2.5 hours"),
    (400_000, "111 hours"), (36_000_000, "10,000 hours"),
  ]) func timeInWords(_ seconds: Double, words: String) { #expect(StageCost.words(seconds) == words) }
}
