import ArgumentParser
import Engine
import Files
import Foundation
import Shards
import Training

struct PredictCommand: PrintsResults {
  static let configuration = CommandConfiguration(
    commandName: "predict",
    abstract: "Print the class of each image, and the probability of every class, as comma-separated values.",
    discussion: """
      Alone or under a launcher: apus predict runs/fine photos > predictions.csv
      A line has the file, its class, and the probability of each class, which the first line names. Files that cannot \
      be read are left out and named on standard error.
      """)

  @Argument(help: "A run whose last stage has a classifier: of apus finetune or apus distil.")
  var path: String

  @Argument(help: "Images: a folder, a list of paths, or a data set that `apus pack` made.")
  var images: String

  @OptionGroup var checkpoint: CheckpointChoice

  @Option(help: "Compute threads of each rank (default: what the launcher bound).")
  var threads: Int?

  func validate() throws {
    if let threads, threads < 1 { throw ValidationError("--threads is \(threads); it must be at least 1") }
  }

  func run() throws {
    try Job.run(threads: threads) { context in
      let isRoot = context.communicator.isRoot
      let encoder = try FrozenEncoder(run: path, checkpoint.choice, context.communicator)
      if isRoot { for notice in encoder.notices { Output.line(notice, to: STDERR_FILENO) } }
      let table = try PredictionTable(encoder, path, context: context)
      func say(_ line: String) { if isRoot { print(line) } }
      if DataSet.isThere(at: images) {
        return try table.predict(try DataSet(at: images), say)
      }
      for part in ["train", "test"] where DataSet.isThere(at: "\(images)/\(part)") {
        throw FileError(images, "predict", "it holds packed sets, train and test: name one, such as \(images)/\(part)")
      }
      var options = SourceOptions()
      options.labelled = false
      let source = try PackSources.open(images, options)
      let bad = try table.predict(source, say) { file, reason in
        Output.line("left out \(file): \(reason)", to: STDERR_FILENO)
      }
      if isRoot, bad > 0 { Output.line("left out \(bad) of the files", to: STDERR_FILENO) }
      if bad > 0, bad == source.listing.images.count + source.listing.rejected.count {
        throw FileError(images, "predict", "none of its \(bad) files could be read")
      }
    }
  }
}
