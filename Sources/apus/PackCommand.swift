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
      SOURCE is \(PackSources.all.map { $0.help }.joined(separator: ", or ")).

      JPEG is kept as it came; PNG and IDX are stored as raw pixels, transparent ones on white. Every image is decoded \
      once here, so that damaged ones are found now: they are listed in OUT/rejected.tsv. A link to a folder is \
      followed; a folder that was read already is left out.
      """)

  enum OnBad: String, ExpressibleByArgument, CaseIterable { case skip, fail }
  enum UnknownClasses: String, ExpressibleByArgument, CaseIterable { case refuse, unlabelled }

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
  @Option(help: "What images of a class that the --like set has not do: refuse all, or become unlabelled.")
  var unknownClasses = UnknownClasses.refuse
  @Option(help: "Folder that the paths of a list start from (default: the list's own).") var root: String?
  @Option(help: "IDX file with the labels of an IDX source.") var labels: String?
  @Option(help: "Names of the classes of an IDX source, separated by commas.") var classNames: String?
  @Flag(help: "Leave all labels away.") var unlabelled = false
  @Option(help: "Threads that decode (default: those that this process may use).") var threads: Int?
  @Flag(help: "Replace OUT where it holds a data set and nothing else.") var force = false

  func validate() throws {
    if let limit, limit < 1 { throw ValidationError("--limit is \(limit), expected at least 1") }
    if let channels, channels != 1, channels != 3 {
      throw ValidationError("--channels is \(channels), expected 1 or 3")
    }
    if channels != nil, like != nil {
      throw ValidationError("--channels and --like say the same thing; give one of them")
    }
    if unknownClasses == .unlabelled, like == nil {
      throw ValidationError("--unknown-classes says nothing without --like; give both")
    }
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads is \(threads); it must be 1 to 1024")
    }
  }

  func run() throws {
    try interruptible {
      try Staging.check(out, force: force)
      let like = try self.like.map { try DataSet(at: $0) }
      let images = try PackSources.open(source, sourceOptions)
      introduce(images.listing)
      let line = ProgressLine("packing")
      var packer = Packer(images, options(like: like))
      let report = try packer.pack(to: out) {
        line.show(done: $0.done, total: $0.total, note: "\(byteText($0.bytes)), \($0.rejected) left out")
      }
      show(report, images.listing)
      try tellDuplicates(report.sets, like: like)
    }
  }

  private var sourceOptions: SourceOptions {
    var options = SourceOptions()
    options.labels = labels
    options.classNames = classNames?.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
    options.root = root
    options.labelled = !unlabelled
    return options
  }

  private func options(like: DataSet?) -> Packer.Options {
    var options = Packer.Options()
    options.split = split?.fraction
    options.limit = limit
    options.shardSize = shardSize.bytes
    options.failsOnBad = onBad == .fail
    options.threads = threads ?? max(1, boundProcessors().count)
    options.channels = channels
    options.force = force
    options.like = like
    options.allowsUnknownClasses = unknownClasses == .unlabelled
    return options
  }

  private func introduce(_ listing: SourceListing) {
    print("packing \(source): \(listing.kind)\(classes(listing)), \(listing.images.count) images")
    for notice in listing.notices { print("note: \(notice)") }
    fflush(nil)  // before anything on standard error
  }

  /// Number and names of the classes.
  private func classes(_ listing: SourceListing) -> String {
    let names = listing.classNames
    if names.isEmpty { return "" }
    let shown = names.prefix(5).map(\.text).joined(separator: ", ") + (names.count > 5 ? ", ..." : "")
    return names.count == 1 ? ", 1 class (\(shown))" : ", \(names.count) classes (\(shown))"
  }

  private func show(_ report: Packer.Report, _ listing: SourceListing) {
    for set in report.sets { print("packed " + summary(set)) }
    if let set = report.sets.first {
      print("mean \(numbers(set.mean)), deviation \(numbers(set.deviation))")
      let kinds = report.channelCounts
      if channels == nil, like == nil, Set(kinds.keys.map { $0 == 4 ? 3 : $0 }).count > 1 {
        print("\(kinds[1] ?? 0) images are grey, the others in colour: all become RGB (--channels 1 makes all grey)")
      }
    }
    if report.unlabelled > 0 { print("\(report.unlabelled) images of classes that \(like!) has not lost their label") }
    let bad = report.rejected
    if !bad.isEmpty {
      print("left out \(bad.count) files, listed in \(out)/rejected.tsv:")
      for file in bad.prefix(20) { print("  \(file.key): \(file.reason)") }
      if bad.count > 20 { print("  and \(bad.count - 20) more") }
    }
    if let first = listing.ignored.first {
      print(
        "ignored \(listing.ignored.count) files whose names are not those of images, such as \(first); "
          + "\(out)/rejected.tsv lists them")
    }
    for folder in report.leftovers { print("\(folder) is left of an earlier, killed process; it can be removed") }
  }
}

/// Reports how many images are byte-for-byte copies of others: within each set, and of training images in the held-out
/// set.
/// - Parameters:
///   - sets: one set, or train and test.
///   - like: the set given as `--like`, if any.
func tellDuplicates(_ sets: [DataSet], like: DataSet? = nil) throws {
  for set in sets {
    let copies = try Duplicates.within(set)
    guard let (copy, original) = copies.example else { continue }
    print(
      "\(copies.count) of \(set.count) images of \(set.path) are copies, byte for byte, of others in it, such as "
        + "\(copy) of \(original)")
  }
  var pairs: [(heldOut: DataSet, training: DataSet)] = []
  if sets.count == 2 { pairs.append((sets[1], sets[0])) }
  if let like { pairs += sets.map { ($0, like) } }
  for (heldOut, training) in pairs {
    let copies = try Duplicates.of(heldOut, in: training)
    guard let (copy, original) = copies.example else { continue }
    print(
      "WARNING: \(copies.count) of \(heldOut.count) images of \(heldOut.path) are copies, byte for byte, of images in "
        + "\(training.path), such as \(copy) of \(original): figures on them are too good. Remove the copies and "
        + "pack again")
  }
}

/// Runs work that cleans up when a signal comes, and then ends the process as that signal would.
func interruptible(_ body: () throws -> Void) throws {
  Interruption.watch()
  do { try body() } catch let stop as Interrupted {
    Output.line("\napus \(stop)", to: STDERR_FILENO)
    throw ExitCode(128 + stop.signal)
  }
}
