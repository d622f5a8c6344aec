import ArgumentParser
import Engine
import Shards
import Training

struct EvaluateCommand: PrintsResults {
  static let configuration = CommandConfiguration(
    commandName: "evaluate",
    abstract: "Judge an encoder by kNN and a linear probe on frozen features, beside random weights and raw pixels.",
    discussion: "Alone or under a launcher. Results go to RUN/evaluations.json and into RUN/report.html.")

  @Argument(help: "A run's folder, or weights in safetensors together with --recipe.")
  var path: String

  @Option(help: "Labelled images to learn the probe from; with --split, the folder that holds train and test.")
  var data: String

  @Option(help: "Held-out labelled images (default: DATA/test, where it is).")
  var test: String?

  @Option(help: "For weights: the recipe whose encoder they are.")
  var recipe: String?

  @Option(help: "Labelled training images that are taken, evenly spread (default: all).")
  var limit: Int?

  @Option(help: "Held-out images that are taken, evenly spread (default: all).")
  var testLimit: Int?

  @Flag(help: "Leave random weights and raw pixels out.")
  var only = false

  @Option(help: "Compute threads of each rank (default: what the launcher bound).")
  var threads: Int?

  func validate() throws {
    for (name, value) in [("--limit", limit), ("--test-limit", testLimit)] {
      if let value, value < 1 { throw ValidationError("\(name) is \(value); it must be at least 1") }
    }
  }

  func run() throws {
    try Job.run(threads: threads) { context in
      let paths = Trainer.paths(data, test)
      guard let testPath = paths.test else {
        throw RunError("evaluation needs held-out images: give --test, or pack with --split")
      }
      let train = try DataSet(at: paths.train)
      let heldOut = try DataSet(at: testPath)
      let isRun = recipe == nil
      let encoder =
        try recipe.map { try FrozenEncoder(weights: path, recipe: Recipe($0), data: train) }
        ?? FrozenEncoder(run: path, context.communicator)
      var comparison = Comparison(encoder, train: train, test: heldOut, context: context)
      comparison.trainLimit = limit
      comparison.testLimit = testLimit
      comparison.baselines = !only
      let isRoot = context.communicator.isRoot
      if isRoot { for notice in encoder.notices { print(notice) } }
      let outcome = try comparison.run { if isRoot { print($0) } }
      guard isRoot else { return }
      print("\n" + EvaluationTable(outcome.results).text)
      print("\n" + Comparison.summary(outcome.results))
      guard isRun else { return }
      try RunFiles.add(outcome.results, to: path)
      try RunFiles.write(try Exhibits.make(encoder, run: path, data: train, test: heldOut, outcome), to: path)
      try Report.write(try ReportContent(run: path), to: RunFolder(path).report)
      print("The report is \(RunFolder(path).report)")
    }
  }
}
