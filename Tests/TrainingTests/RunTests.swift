import Engine
import Foundation
import Limits
import Ranks
import Shards
import TestSupport
import Testing
import Training

/// A run's folder: foreign files are not overwritten, and the run's own results are not lost.
@Suite struct RunTests {
  private func folder(_ tiny: NoiseRun, _ step: Int) -> String {
    tiny.run.checkpoints + "/" + Checkpoint.name(step: step)
  }

  /// All files of a run with their contents.
  private func contents(_ run: RunFolder) throws -> [String: Data] {
    var found: [String: Data] = [:]
    for name in try FileManager.default.subpathsOfDirectory(atPath: run.path) {
      found[name] = FileManager.default.contents(atPath: run.path + "/" + name)
    }
    return found
  }

  // MARK: Checkpoints that cannot be read

  enum Obstacle: String, CaseIterable { case newer, folder, link, damaged, gone, goneUnfinished }

  /// If checkpoints cannot be read, the run fails and changes nothing; it does not start over.
  @Test(arguments: Obstacle.allCases) func unreadableCheckpointsAreNoBeginning(_ obstacle: Obstacle) throws {
    let tiny = try NoiseRun()
    let request = try tiny.request()
    try tiny.train(request)
    let files = FileManager.default
    let manifests = [3, 4].map { folder(tiny, $0) + "/manifest.json" }
    let words: String
    switch obstacle {
    case .newer:
      for path in manifests {
        let text = try String(contentsOfFile: path, encoding: .utf8)
        try text.replacing("\"format\" : 1", with: "\"format\" : 9").write(
          toFile: path, atomically: false, encoding: .utf8)
      }
      words = "has format 9, this build reads 1: update apus; nothing was changed"
    case .folder:
      // A folder cannot be read as a file, not even by root.
      try files.removeItem(atPath: manifests[1])
      try files.createDirectory(atPath: manifests[1], withIntermediateDirectories: false)
      words = "cannot read \(manifests[1])"
    case .link:
      try files.removeItem(atPath: tiny.run.checkpoints)
      try files.createSymbolicLink(atPath: tiny.run.checkpoints, withDestinationPath: "checkpoints")
      words = "\(tiny.run.checkpoints)"
    case .damaged:
      for path in manifests { try Data("{".utf8).write(to: URL(fileURLWithPath: path)) }
      words = "none of the checkpoints in \(tiny.run.checkpoints) is whole"
    case .gone:
      for step in [3, 4] { try files.removeItem(atPath: folder(tiny, step)) }
      words = "is complete, but it has no checkpoints any more"
    case .goneUnfinished:
      for step in [3, 4] { try files.removeItem(atPath: folder(tiny, step)) }
      try files.removeItem(atPath: tiny.run.complete)
      words = "was trained for 4 steps or more, but there is no checkpoint in"
    }
    let before = try contents(tiny.run)
    let text = try #require(tiny.refusal(request))
    #expect(text.contains(words), "\(text)")
    if obstacle == .damaged { #expect(text.contains("step-00000003") && text.contains("step-00000004")) }
    #expect(try contents(tiny.run) == before)
    #expect(tiny.run.isComplete || [.link, .goneUnfinished].contains(obstacle))
    #expect(try tiny.metrics().count > 3)
  }

  /// A requested restart sets the earlier run aside.
  @Test func aRestartSetsTheEarlierRunAside() throws {
    let tiny = try NoiseRun()
    var request = try tiny.request()
    try tiny.train(request)
    let arrays = try tiny.arrays(4)
    try tiny.write("mine", to: "notes.txt")
    for path in [3, 4].map({ folder(tiny, $0) + "/manifest.json" }) {
      try Data("{".utf8).write(to: URL(fileURLWithPath: path))
    }
    let before = try contents(tiny.run)
    request.restarts = true
    #expect(try tiny.train(request) == .complete)
    #expect(try tiny.arrays(4) == arrays)
    let earlier = try contents(RunFolder(tiny.run.path + "/earlier-1"))
    for (name, data) in before where name != "lock" && name != "notes.txt" {
      #expect(earlier[name] == data, "\(name)")
    }
    #expect(tiny.text("notes.txt") == "mine")
    try tiny.train(request)
    #expect(FileManager.default.fileExists(atPath: tiny.run.path + "/earlier-2/metrics.jsonl"))
  }

  /// A damaged checkpoint is skipped with a notice, and replaced when the run reaches its step again.
  @Test func damagedCheckpointsAreSetAside() throws {
    let tiny = try NoiseRun()
    try tiny.train(tiny.request())
    try Data("{".utf8).write(to: URL(fileURLWithPath: folder(tiny, 4) + "/manifest.json"))
    #expect(try tiny.train(tiny.request(), stopAfter: 1) == .complete)
    #expect(tiny.said.contains { $0.hasPrefix("Passed over: ") && $0.contains("step-00000004") })
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: tiny.run.checkpoints).sorted() == [
        "step-00000003", "step-00000004",
      ])
    #expect(try tiny.metrics().filter { $0["loss"] != nil }.map(\.step) == [1, 2, 3, 4])
  }

  /// All ranks select the same checkpoint, or throw the same error.
  @Test func ranksAgreeOnACheckpoint() throws {
    let tiny = try NoiseRun()
    try tiny.train(tiny.request())
    let run = tiny.run
    let found = try Ranks.run(3) { try Checkpoint.newest(run, $0).manifest?.step ?? 0 }
    #expect(found == [4, 4, 4])
    try FileManager.default.removeItem(atPath: folder(tiny, 4) + "/manifest.json")
    try FileManager.default.createDirectory(
      atPath: folder(tiny, 4) + "/manifest.json", withIntermediateDirectories: false)
    let refused = try Ranks.run(3) { communicator in
      do { return "\(try Checkpoint.newest(run, communicator).manifest?.step ?? 0)" } catch { return "\(error)" }
    }
    #expect(Set(refused).count == 1 && refused[0].contains("cannot read"), "\(refused)")
  }

  // MARK: Files of others

  @Test(arguments: ["recipe.yaml", "report.html", "metrics.jsonl", "facts.json", "complete", "checkpoints/model.pt"])
  func aFileThatNoRunWroteStays(_ name: String) throws {
    let tiny = try NoiseRun()
    let path = tiny.run.path + "/" + name
    try FileManager.default.createDirectory(
      atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    try Data("# mine\n".utf8).write(to: URL(fileURLWithPath: path))
    var request = try tiny.request()
    let before = try contents(tiny.run)
    let text = try #require(tiny.refusal(request))
    let top = tiny.run.path + "/" + name.prefix { $0 != "/" }
    #expect(text.contains(top + " is there, and no run made this folder"), "\(text)")
    request.restarts = true
    #expect(tiny.refusal(request) != nil)
    #expect(try contents(tiny.run) == before)
  }

  /// A folder may have other files, and a recipe equal to the one to be written.
  @Test func whatIsNotInTheWayMayBeThere() throws {
    let tiny = try NoiseRun()
    try FileManager.default.createDirectory(atPath: tiny.run.path, withIntermediateDirectories: true)
    let request = try tiny.request()
    try tiny.write(request.recipe.yaml, to: "recipe.yaml")
    try tiny.write("mine", to: "notes.txt")
    #expect(try tiny.train(request) == .complete)
    #expect(tiny.text("notes.txt") == "mine")
  }

  @Test func anEditedRecipeStays() throws {
    let tiny = try NoiseRun()
    try tiny.train(tiny.request())
    let longer = try tiny.request("", ["length=6 steps"])
    let edited = "# my notes\n" + (tiny.text("recipe.yaml") ?? "")
    try tiny.write(edited, to: "recipe.yaml")
    let text = try #require(tiny.refusal(longer))
    #expect(text.contains("recipe.yaml is not what the run wrote"), "\(text)")
    #expect(tiny.text("recipe.yaml") == edited && tiny.run.isComplete)
    // Files that the run wrote before its first checkpoint are its own.
    try FileManager.default.removeItem(atPath: tiny.run.recipe)
    #expect(try tiny.train(longer, stopAfter: 1) == .stopped)
    #expect(try tiny.train(tiny.request("", ["length=7 steps"])) == .complete)
    #expect(tiny.text("recipe.yaml")?.contains("7 steps") == true)
  }

  // MARK: Finished runs and other recipes

  @Test func aFinishedRunStaysComplete() throws {
    let tiny = try NoiseRun()
    try tiny.train(tiny.request())
    let before = try contents(tiny.run)
    let shorter = try #require(tiny.refusal(tiny.request("", ["length=2 steps"])))
    #expect(shorter.contains("has done 4 steps, the recipe's length is 2: lengthen it"), "\(shorter)")
    let seed = try #require(tiny.refusal(tiny.request("", ["seed=2"])))
    #expect(seed.contains("is complete, but it was trained by another recipe: seed: 1 → 2"), "\(seed)")
    try tiny.write("others", images: 30, seed: 9)
    let data = try #require(tiny.refusal(tiny.request(data: ["data": tiny.path + "/others"])))
    #expect(data.contains("was trained on other data") && data.contains("others (30 images)"), "\(data)")
    #expect(try contents(tiny.run) == before)
    // Another `log` interval does not make another run.
    #expect(try tiny.train(tiny.request("", ["log=2 steps"])) == .complete)
    #expect(tiny.said.contains { $0.contains("is complete: 4 steps. To go on, lengthen it") })
    #expect(try contents(tiny.run) == before)
  }

  /// A run that was killed right after its last checkpoint is completed by the next start.
  @Test func aRunThatLacksOnlyItsEndIsFinished() throws {
    let tiny = try NoiseRun()
    try tiny.train(tiny.request())
    let before = try tiny.arrays(4)
    for file in [tiny.run.complete, tiny.run.report] { try FileManager.default.removeItem(atPath: file) }
    #expect(try tiny.train(tiny.request()) == .complete)
    #expect(try tiny.run.isComplete && tiny.text("report.html") != nil && tiny.arrays(4) == before)
  }

  /// A change of the batch, which changes the epoch and rate of a step, gives a notice.
  @Test func aJumpOfTheScheduleIsTold() throws {
    let tiny = try NoiseRun()
    try tiny.train(tiny.request("", ["length=8 steps"]), stopAfter: 3)
    try tiny.train(tiny.request("", ["length=8 steps", "batch=20"]))
    #expect(tiny.said.contains("Changed since the checkpoint: batch: 12 → 20"))
    let note = try #require(tiny.said.first { $0.contains("epochs and the schedule jump") })
    #expect(note.contains("stood at epoch 1.00, rate 0.") && note.contains("step 3 is epoch 1.50, rate 0."), "\(note)")
    let same = try NoiseRun()
    try same.train(same.request(), stopAfter: 2)
    try same.train(same.request())
    #expect(!same.said.contains { $0.contains("jump") } && same.said.contains { $0.contains("bit for bit") })
  }

  /// A stop writes no report, so it does not read the checkpoint that it has just written.
  @Test func aStoppedRunWritesNoReport() throws {
    let tiny = try NoiseRun()
    #expect(try tiny.train(tiny.request(), stopAfter: 2) == .stopped)
    #expect(tiny.text("report.html") == nil && tiny.text("exhibits.json") == nil)
    #expect(try tiny.train(tiny.request()) == .complete)
    #expect(tiny.text("report.html") != nil)
  }

  @Test func aWarmUpLongerThanTheRunIsTold() throws {
    let tiny = try NoiseRun()
    try tiny.train(tiny.request("", ["schedule={name: cosine, warmup: 9 steps}"]))
    #expect(tiny.said.contains { $0.contains("schedule.warmup is 9 steps, 9 steps, but the run has 4") })
  }

  // MARK: Memory

  /// The memory of parameters is taken when it is first written.
  @Test func anUntouchedSlabTakesNoMemory() {
    var layout = ParameterLayout()
    _ = layout.add("a.weight", [1 << 15, 1 << 15], .weight, .normal(1))
    let before = peakResident()
    let slab = ParameterSlab(layout)
    #expect(slab.count == 1 << 30 && slab.data[1 << 29] == 0)
    #expect(peakResident() - before < 64 << 20)
  }

  /// A queue of 34 GB is refused before its memory is allocated.
  @Test func whatDoesNotFitIsRefusedBeforeItIsTaken() throws {
    let tiny = try NoiseRun()
    let moco = "method: {name: moco, temperature: 0.2, head: [128], queue: \(1 << 26)}\nbatchNorm: {shuffle: 6}"
    let rest = NoiseRun.tiny.split(separator: "\n").filter { !$0.hasPrefix("method") }.joined(separator: "\n")
    let stage = try Recipe(yaml: rest + "\n" + moco, from: "test").stages[0]
    let data = try DataSet(at: tiny.path + "/data")
    let before = peakResident()
    let stageRun = try StageRun(stage, data: data, heldOut: data, seed: 1, index: 0, Context())
    #expect(peakResident() - before < 1 << 30)
    let memory = stageRun.memory
    #expect(memory.state > 1 << 35)
    for part in [memory.activations, memory.gradients, memory.monitor] { #expect(part > 0) }
    #expect(memory.index == 80 * 48 && memory.cache <= 40 * 100)
    #expect(memory.batches == 3 * 13 * 2 * 64 * 4)
    let folder = tiny.run
    let free = Int64(memory.total)
    func refusal(node: Int64? = nil, process: Int64? = nil, disk: Int64? = nil) -> String {
      func room(_ bytes: Int64?) -> MemoryRoom? { bytes.map { MemoryRoom(bytes: $0, bound: "", advice: "") } }
      do { try stageRun.checkRoom(folder, ofNode: room(node), ofProcess: room(process), diskFree: disk) } catch {
        return "\(error)"
      }
      return ""
    }
    #expect(refusal(node: free, process: free, disk: 1 << 40) == "")
    #expect(refusal(node: free - 1).contains("1 rank on"))
    #expect(refusal(process: 1 << 20).contains("besides activations and state, a rank needs"))
    #expect(refusal(node: free - 1).contains("are free: take a smaller batch"))
    #expect(refusal(disk: 1 << 30).contains("checkpoints need"))
  }

  // MARK: Metrics

  /// A file of a million lines is truncated by reading only its end.
  @Test func longMetricsAreCutFromTheirEnd() throws {
    let tiny = try NoiseRun()
    let path = tiny.path + "/metrics.jsonl"
    let count = 1_000_000
    let text = (1...count).map { "{\"loss\":0.5,\"step\":\($0)}\n" }.joined() + "{\"loss\":0.5,\"st"
    try text.write(toFile: path, atomically: false, encoding: .utf8)
    let start = ContinuousClock.now
    try MetricsFile.truncate(path, after: count - 5000)
    #expect(ContinuousClock.now - start < .seconds(2))
    let rest = try String(contentsOfFile: path, encoding: .utf8)
    #expect(text.hasPrefix(rest) && rest.hasSuffix("\"step\":\(count - 5000)}\n"))
    try MetricsFile.truncate(path, after: 0)
    #expect(try Data(contentsOf: URL(fileURLWithPath: path)).isEmpty)
  }

  /// What guessing gives is written down by the method, its factor included, and is the report's guide.
  @Test func chanceIsAMetric() throws {
    for (scale, words) in [(1, "guessing: ln(23)"), (2, "guessing: 6.271")] {
      let tiny = try NoiseRun()
      try tiny.train(tiny.request("", ["method.lossScale=\(scale)"]))
      let chance = try #require(tiny.metrics().first?["chance"])
      #expect(abs(chance - Double(scale) * log(23)) < 1e-9)
      #expect(try #require(tiny.text("report.html")).contains(words), "\(scale)")
    }
  }
}
