import ArgumentParser
import Files
import Foundation
import Shards
import Threading

struct PackCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pack",
    abstract: "Pack images into a data set: a folder of HDF5 shards.",
    discussion: """
      SOURCE is a folder with a folder per class (photos/cat/1.jpg), a folder of images without classes, a text file \
      with a path and, after a tab or space, a label a line, or an IDX file (train-images-idx3-ubyte.gz; its labels \
      are found beside it).

      JPEG is kept as it came; PNG and IDX are stored as raw pixels, transparent ones on white. Every image is decoded \
      once here, so that damaged ones are found now: they are listed in OUT/rejected.tsv.
      """)

  enum OnBad: String, ExpressibleByArgument, CaseIterable { case skip, fail }

  @Argument(help: "Folder, list or IDX file.") var source: String
  @Argument(help: "Folder to write; must not exist.") var out: String
  @Option(help: "Hold out this share of the images (10% or 0.1), by a hash of each key: writes OUT/train and OUT/test.")
  var split: Share?
  @Option(help: "Take at most this many images, chosen by a hash of the key.") var limit: Int?
  @Option(help: "Image bytes of a shard at most.") var shardSize = ByteSize(argument: "1GiB")!
  @Option(help: "What a file that cannot be read does: skip or fail.") var onBad = OnBad.skip
  @Option(help: "Channels of the data set, 1 or 3 (default: what all images share, else 3).") var channels: Int?
  @Option(help: "Data set whose channels, classes, mean and deviation are taken over, such as the training set.")
  var like: String?
  @Option(help: "IDX file with the labels of an IDX source.") var labels: String?
  @Option(help: "Names of the classes of an IDX source, separated by commas.") var classNames: String?
  @Flag(help: "Leave all labels away.") var unlabelled = false
  @Option(help: "Threads that decode (default: those that this process may use).") var threads: Int?
  @Flag(help: "Replace OUT where it is a data set.") var force = false

  func validate() throws {
    if let limit, limit < 1 { throw ValidationError("--limit is \(limit), expected at least 1") }
    if let channels, channels != 1, channels != 3 {
      throw ValidationError("--channels is \(channels), expected 1 or 3")
    }
    if channels != nil, like != nil {
      throw ValidationError("--channels and --like say the same thing; give one of them")
    }
    if let threads, threads < 1 { throw ValidationError("--threads is \(threads), expected at least 1") }
  }

  func run() throws {
    try interruptible {
      try Staging.check(out, force: force)
      let names = classNames?.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
      let images = try PackSource(source, labels: labels, classNames: names, labelled: !unlabelled)
      var options = Packer.Options()
      options.split = split?.fraction
      options.limit = limit
      options.shardSize = shardSize.bytes
      options.failsOnBad = onBad == .fail
      options.threads = threads ?? max(1, boundProcessors().count)
      options.channels = channels
      options.force = force
      options.like = try like.map { try DataSet(at: $0) }
      let classes = images.classNames.isEmpty ? "" : ", \(images.classNames.count) classes"
      print("packing \(source): \(images.kind)\(classes), \(images.images.count) images")
      fflush(nil)  // before anything on standard error
      let line = ProgressLine("packing")
      var packer = Packer(images, options)
      let report = try packer.pack(to: out) {
        line.show(done: $0.done, total: $0.total, note: "\(byteText($0.bytes)), \($0.rejected) left out")
      }
      show(report, images)
    }
  }

  private func show(_ report: Packer.Report, _ images: PackSource) {
    for set in report.sets { print("packed " + summary(set)) }
    if let set = report.sets.first {
      print("mean \(numbers(set.mean)), deviation \(numbers(set.deviation))")
      let kinds = report.channelCounts
      if channels == nil, like == nil, Set(kinds.keys.map { $0 == 4 ? 3 : $0 }).count > 1 {
        print("\(kinds[1] ?? 0) images are grey, the others in colour: all become RGB (--channels 1 makes all grey)")
      }
    }
    let bad = report.rejected
    if !bad.isEmpty {
      print("left out \(bad.count) files, listed in \(out)/rejected.tsv:")
      for file in bad.prefix(20) { print("  \(file.key): \(file.reason)") }
      if bad.count > 20 { print("  and \(bad.count - 20) more") }
    }
    if let first = images.ignored.first {
      print("ignored \(images.ignored.count) files whose names are not those of images, such as \(first)")
    }
    for folder in report.leftovers { print("\(folder) is left of an earlier, killed process; it can be removed") }
  }
}

/// Runs work that cleans up behind itself when a signal comes, and then ends as that signal would.
func interruptible(_ body: () throws -> Void) throws {
  Interruption.watch()
  do { try body() } catch let stop as Interrupted {
    Output.line("\napus \(stop)", to: STDERR_FILENO)
    throw ExitCode(128 + stop.signal)
  }
}

/// A data set in a line.
func summary(_ set: DataSet) -> String {
  let bytes = set.shards.reduce(0) { $0 + $1.byteCount }
  let classes = set.classNames.isEmpty ? "no classes" : "\(set.classNames.count) classes"
  let shards = set.shards.count == 1 ? "1 shard" : "\(set.shards.count) shards"
  let channels = set.channels == 1 ? "1 channel" : "\(set.channels) channels"
  return "\(set.path): \(set.count) images, \(channels), \(classes), \(byteText(bytes)) in \(shards)"
}

func numbers(_ values: [Double]) -> String {
  values.map { String(format: "%.4f", $0) }.joined(separator: " ")
}
