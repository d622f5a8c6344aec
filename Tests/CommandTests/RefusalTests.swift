import Foundation
import Testing

/// A command that must be refused, and texts that its error must contain.
struct Refusal: Sendable, CustomTestStringConvertible {
  let testDescription: String
  var ranks: Int?
  var recipe = Workplace.recipe("simclr")
  var data = "data"
  var run = "run"
  var changes: [String] = []
  var options: [String] = []
  var wrapper: [String] = []
  let words: [String]

  init(_ name: String, ranks: Int? = 2, words: [String], _ change: (inout Refusal) -> Void = { _ in }) {
    testDescription = name
    self.ranks = ranks
    self.words = words
    change(&self)
  }

  static let all = [
    Refusal(
      "a misspelt recipe",
      words: ["no built-in recipe `simclr-v1-fasion`", "did you mean `simclr-v1-fashion`?", "built in are"]
    ) {
      $0.recipe = "simclr-v1-fasion"
    },
    Refusal("a misspelt key", words: ["optimizer", "sgd has no `rat`; did you mean `rate`?"]) {
      $0.changes = ["optimizer.rat=1"]
    },
    Refusal("a wrong type", ranks: nil, words: ["batch: expected a whole number, found `many`"]) {
      $0.changes = ["batch=many"]
    },
    Refusal("no override", ranks: nil, words: ["`--set batch` is no override", "write it as --set"]) {
      $0.changes = ["batch"]
    },
    Refusal("parts of a SimCLR batch", words: ["accumulate is 2", "simclr's negatives", "use more ranks, or moco"]) {
      $0.changes = ["accumulate=2"]
    },
    Refusal("shuffled BN for SimCLR", words: ["batchNorm is shuffle", "use global or group"]) {
      $0.changes = ["batchNorm={shuffle: 8}"]
    },
    Refusal(
      "fewer images than ranks", ranks: 4, words: ["batch is 3, but there are 4 ranks", "larger batch or fewer ranks"]
    ) { $0.changes = ["batch=3"] },
    Refusal("a batch larger than the data", words: ["batch is 1000", "train has 290 images", "take a smaller batch"]) {
      $0.changes = ["batch=1000"]
    },
    Refusal(
      "more threads than processors", ranks: nil,
      words: ["--threads 2", "bound this rank to 1 processor:", "--cpus-per-task=2", "fewer threads"]
    ) {
      $0.wrapper = ["taskset", "-c", "0"]
      $0.options = ["--threads", "2"]
    },
    Refusal("missing data", words: ["cannot read", "nowhere: it is not a folder that can be read"]) {
      $0.data = "nowhere"
    },
    Refusal("a foreign shard", words: ["foreign/shard-00000.h5: it is no apus shard", "pack images with `apus pack`"]) {
      $0.data = "foreign"
    },
    Refusal("a truncated shard", words: ["cut/shard-00000.h5"]) { $0.data = "cut" },
    Refusal("a run below a file", words: ["cannot make the run folder", "occupied is a file", "can be written to"]) {
      $0.run = "occupied/run"
    },
    Refusal("weights that are not there", words: ["nothing.safetensors", "No such file or directory"]) {
      $0.options = ["--init", "nothing.safetensors"]
    },
    Refusal(
      "a disk that is too small", ranks: nil,
      words: ["checkpoints need", "MiB", "are free", "make room or give another --run"]
    ) {
      $0.changes = ["checkpoint={keep: 900000000}"]
    },
    Refusal(
      "more memory than there is", ranks: nil,
      words: ["1 rank on", "needs", "MiB, but", "are free: take a smaller batch"]
    ) {
      $0.changes = ["views.0.size=1000", "batch=200"]
    },
    Refusal(
      "more memory than there are addresses", ranks: nil,
      words: ["a step's activations need more than", "MiB that the system gives a process: take a smaller batch"]
    ) {
      $0.changes = ["views.0.size=4000", "batch=200"]
    },
  ]
}

extension ShortCommandTests {
  /// Commands that cannot work are refused before step 0 with an error, and the whole job ends within seconds.
  @Suite final class RefusalTests {
    let work: Workplace
    init() throws { work = try Workplace() }

    /// Creates invalid data sets, and a file in the place of a folder.
    private func spoil() throws {
      let files = FileManager.default
      let data = try work.data()
      try files.createDirectory(atPath: work.path + "/foreign", withIntermediateDirectories: true)
      try String(repeating: "this is no shard ", count: 1000).write(
        toFile: work.path + "/foreign/shard-00000.h5", atomically: true, encoding: .utf8)
      try files.createDirectory(atPath: work.path + "/cut", withIntermediateDirectories: true)
      let shard = try Data(contentsOf: URL(fileURLWithPath: data + "/train/shard-00000.h5"))
      try shard.prefix(shard.count / 2).write(to: URL(fileURLWithPath: work.path + "/cut/shard-00000.h5"))
      _ = files.createFile(atPath: work.path + "/occupied", contents: nil)
    }

    @Test(arguments: Refusal.all) func isRefused(_ refusal: Refusal) throws {
      try spoil()
      let job = try Job(
        ["pretrain", refusal.recipe, "--data", work.path + "/" + refusal.data, "--run", work.path + "/" + refusal.run]
          + refusal.changes.flatMap { ["--set", $0] } + refusal.options,
        ranks: refusal.ranks, wrapper: refusal.wrapper, in: work.path)
      let outcome = job.outcome()
      #expect(outcome.status == 1, "\(outcome.output)")
      #expect(outcome.seconds < Workplace.soon)
      for words in refusal.words { #expect(outcome.output.contains(words), "`\(words)` is not in: \(outcome.output)") }
      #expect(
        outcome.output.components(separatedBy: "error: ").count == 2, "said once, not by every rank: \(outcome.output)")
      if refusal.ranks == nil {
        #expect(outcome.output.split(separator: "\n").count == 1, "nothing but the error: \(outcome.output)")
      }
      #expect(work.checkpoints(work.path + "/run").isEmpty)
    }

    /// Numbers that no command can work with, each refused before any work with the option's name.
    static let numbers = [
      ["evaluate", "run", "--data", "data", "--limit", "0"],
      ["evaluate", "run", "--data", "data", "--test-limit", "0"],
      ["evaluate", "run", "--data", "data", "--threads", "0"],
      ["evaluate", "run", "--data", "data", "--step", "-1"],
      ["pretrain", "simclr-v1-imagenet", "--data", "data", "--run", "run", "--threads", "0"],
      ["pretrain", "simclr-v1-imagenet", "--data", "data", "--run", "run", "--loader-threads", "0"],
      ["pack", "data", "out", "--limit", "0"],
      ["pack", "data", "out", "--shard-size", "0"],
      ["pack", "data", "out", "--split", "0"],
      ["pack", "data", "out", "--threads", "0"],
      ["shard", "data", "out", "--shard-size", "0"],
      ["bench", "--images", "0"],
      ["bench", "views", "--loader-threads", "0"],
      ["replicas", "make", "tiny", "data", "out", "--steps", "0"],
      ["replicas", "compare", "a", "b", "--bound", "0"],
      ["replicas", "compare", "a", "b", "--move", "-1"],
    ]

    @Test(arguments: numbers) func numbersAreChecked(_ words: [String]) throws {
      let outcome = try Job(words, in: work.path).outcome(within: 30)
      #expect(outcome.status == 64 || outcome.status == 1, "\(outcome.output)")
      #expect(outcome.output.contains(words[words.count - 2]), "\(outcome.output)")
      #expect(!outcome.output.contains("Fatal error"))
    }

    @Test func evaluationNeedsLabels() throws {
      let run = work.path + "/run"
      let data = try work.data("--unlabelled")
      let trained = try work.pretrain(ranks: nil, run: run, ["length=2 steps"]).outcome()
      #expect(
        trained.status == 0 && trained.output.contains("no kNN while training: it needs labelled images"),
        "\(trained.output)")
      let outcome = try work("evaluate", run, "--data", data, ranks: 2)
      #expect(outcome.status == 1 && outcome.seconds < Workplace.soon)
      #expect(
        outcome.output.contains(
          "evaluation needs labels, and none of the 290 images of the training set \(data)/train has one"),
        "\(outcome.output)")
      let unsplit = try work("evaluate", run, "--data", data + "/train")
      #expect(unsplit.status == 1 && unsplit.output.contains("give --test, or pack with --split"), "\(unsplit.output)")
    }
  }
}
