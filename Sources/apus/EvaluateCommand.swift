import ArgumentParser
import Engine
import Ranks
import Shards
import Training

struct EvaluateCommand: PrintsResults {
  static let configuration = CommandConfiguration(
    commandName: "evaluate",
    abstract: "Judge an encoder by kNN and a linear probe on frozen features, beside random weights and raw pixels.",
    discussion: """
      Alone or under a launcher. Images are fed to the encoder as they were in training, whatever set they are from. \
      Classes of the two sets are the same where their names are. Results go to RUN/evaluations.json and into \
      RUN/report.html.
      """)

  @Argument(help: "A run's folder, or weights in safetensors together with --recipe.")
  var path: String

  @Option(help: "Labelled images to learn the probe from; with --split, the folder that holds train and test.")
  var data: String

  @Option(help: "Held-out labelled images (default: DATA/test, where it is).")
  var test: String?

  @Option(help: "For weights: the recipe whose encoder they are.")
  var recipe: String?

  @OptionGroup var checkpoint: CheckpointChoice

  @Option(help: "Labelled training images that are taken, evenly spread (default: all).")
  var limit: Int?

  @Option(help: "Held-out images that are taken, evenly spread (default: all).")
  var testLimit: Int?

  @Flag(help: "Leave random weights and raw pixels out.")
  var only = false

  @Flag(help: "Leave held-out images out whose class the training images have not.")
  var skipUnknown = false

  @Option(help: "Compute threads of each rank (default: what the launcher bound).")
  var threads: Int?

  func validate() throws {
    for (name, value) in [("--limit", limit), ("--test-limit", testLimit), ("--threads", threads)] {
      if let value, value < 1 { throw ValidationError("\(name) is \(value); it must be at least 1") }
    }
    if recipe != nil, checkpoint.isGiven {
      throw ValidationError("--step and --stage are a run's; weights with --recipe have none")
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
      let encoder = try encoder(train, context.communicator)
      let isRoot = context.communicator.isRoot
      func say(_ line: String) { if isRoot { print(line) } }
      encoder.notices.forEach(say)
      var comparison = Comparison(encoder, train: train, test: heldOut, context: context)
      comparison.trainLimit = limit
      comparison.testLimit = testLimit
      comparison.baselines = !only
      comparison.skipsUnknown = skipUnknown
      let outcome = try comparison.run(encoder.subject(path), say)
      say("\n\(outcome.record.heading)\n")
      say(EvaluationTable(outcome.record.results).text)
      say("\n" + outcome.record.summary)
      if isRoot, recipe == nil { try write(outcome, encoder, train, heldOut) }
    }
  }

  private func encoder(_ train: DataSet, _ communicator: any Communicator) throws -> FrozenEncoder {
    guard let recipe else { return try FrozenEncoder(run: path, checkpoint.choice, communicator) }
    return try FrozenEncoder(weights: path, recipe: Recipe(recipe), data: train)
  }

  /// Writes the results into the run's folder.
  private func write(
    _ outcome: Comparison.Outcome, _ encoder: FrozenEncoder, _ train: DataSet, _ heldOut: DataSet
  ) throws {
    if RunFiles.hasOldEvaluations(path) {
      print("\(RunFiles.evaluations) of an earlier version, which did not write down what was judged, is replaced.")
    }
    try RunFiles.add(outcome.record, to: path)
    try RunFiles.write(try Exhibits.make(encoder, run: path, data: train, test: heldOut, outcome), to: path)
    try Report.write(try ReportContent(run: path), to: RunFolder(path).report)
    print("The report is \(RunFolder(path).report)")
  }
}
