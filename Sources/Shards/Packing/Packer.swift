import Files
import Foundation
import Threading

/// Packs a source into a folder of shards: `OUT`, or `OUT/train` and `OUT/test` where a part is held out.
/// Images are stored in the order of a hash of their keys, so that neighbours are of mixed classes.
package struct Packer {
  package struct Options: Sendable {
    /// Share of the images that is held out, by a hash of the key.
    package var split: Double?
    /// At most so many images, the first by another hash of the key.
    package var limit: Int?
    /// Image bytes of a shard at most.
    package var shardSize = 1 << 30
    /// The first bad file ends it all, instead of being listed and left out.
    package var failsOnBad = false
    /// Threads that decode.
    package var threads = 1
    /// 1 or 3; nil takes what all images share, else 3.
    package var channels: Int?
    /// A data set at the target is replaced.
    package var force = false
    /// A data set whose channels, class names, mean and deviation are taken over.
    package var like: DataSet?
    /// Images of a class that `like` has not lose their label, instead of being refused.
    package var allowsUnknownClasses = false

    package init() {}
  }

  package struct Progress: Sendable {
    package var done: Int, total: Int, bytes: Int, rejected: Int
  }

  package struct Report {
    /// One data set, or train and test.
    package var sets: [DataSet]
    package var rejected: [Rejected]
    /// Images by stored channels.
    package var channelCounts: [Int: Int]
    /// Images that lost their label, because their class is unknown.
    package var unlabelled: Int
    /// Folders of earlier, killed processes.
    package var leftovers: [String]
  }

  /// Lists, in a data set's folder, the files that were left out.
  static let rejectedFile = "rejected.tsv"

  private let source: any PackSource
  private let options: Options
  private let team: ThreadTeam
  private var rejected: [Rejected]
  private var channelCounts: [Int: Int] = [:]
  private var unlabelled = 0
  /// What all but the held-out images add up to, by the channels they were summed in.
  private var sums: [Int: ChannelSums] = [:]

  package init(_ source: any PackSource, _ options: Options) {
    self.source = source
    self.options = options
    rejected = source.listing.rejected
    team = ThreadTeam(count: options.threads)
  }

  private var channels: Int? { options.like?.channels ?? options.channels }

  /// Does it all; on any error nothing stays.
  /// - Throws: `FileError`, or `Interrupted` after a signal.
  package mutating func pack(to out: String, progress: (Progress) -> Void) throws -> Report {
    if options.failsOnBad, let bad = rejected.first { throw FileError(bad.key, "pack", bad.reason) }
    let classes = try classMap()
    var images = Split.ordered(source.listing.images)
    if let limit = options.limit { images.removeLast(max(0, images.count - limit)) }
    let staging = try Staging(out, force: options.force)
    try SpaceEstimate.check(images, of: source, at: out)
    let writers = try self.writers(staging.path, classes.classNames)
    try write(images, classes, writers, progress)
    let described = try self.description()
    try checkNotEmpty(writers, images.count, out)
    for writer in writers { try writer.finish(mean: described.mean, deviation: described.deviation) }
    try writeRejected(staging.path)
    try Interruption.check()
    try staging.commit()
    let parts = options.split == nil ? [""] : ["/train", "/test"]
    return Report(
      sets: try parts.map { try DataSet(at: staging.target + $0) }, rejected: rejected, channelCounts: channelCounts,
      unlabelled: unlabelled, leftovers: staging.leftovers)
  }

  private func classMap() throws(FileError) -> ClassMap {
    guard let like = options.like else { return ClassMap(source.listing) }
    return try ClassMap(source.listing, like: like, allowsUnknown: options.allowsUnknownClasses)
  }

  private func writers(_ path: String, _ classNames: [String]) throws(FileError) -> [DataSetWriter] {
    if options.split == nil {
      rmdir(path)  // the writer makes its own folder
      return [try DataSetWriter(path, classNames: classNames, shardSize: options.shardSize)]
    }
    return [
      try DataSetWriter(path + "/train", classNames: classNames, shardSize: options.shardSize),
      try DataSetWriter(path + "/test", classNames: classNames, shardSize: options.shardSize),
    ]
  }

  private func checkNotEmpty(_ writers: [DataSetWriter], _ images: Int, _ out: String) throws(FileError) {
    for writer in writers where writer.count == 0 {
      let part = writers.count == 1 ? "it" : Name(writer.path).last.text
      guard images == 0 || rejected.count >= images else {
        throw FileError(out, "pack", "no image is left for \(part), change --split")
      }
      let first = rejected.first.map { "\($0.key): \($0.reason)" } ?? "there is none"
      throw FileError(out, "pack", "no image is left for \(part): no file could be read, the first was \(first)")
    }
  }

  // MARK: Images

  private typealias Outcome = Result<ImageImporter.Imported, ImageError>

  /// Decodes in parallel, a chunk at a time, and writes in order.
  private mutating func write(
    _ images: [SourceImage], _ classes: ClassMap, _ writers: [DataSetWriter], _ progress: (Progress) -> Void
  ) throws {
    var importers = [ImageImporter](repeating: ImageImporter(channels: channels), count: options.threads)
    let chunk = 16 * options.threads
    for start in stride(from: 0, to: images.count, by: chunk) {
      try Interruption.check()
      let part = images[start..<min(start + chunk, images.count)]
      for (image, outcome) in zip(part, take(part, &importers)) {
        switch outcome {
        case .success(let imported): try store(imported, image, classes, writers)
        case .failure(let error):
          if options.failsOnBad { throw FileError(image.key.text, "pack", error.reason) }
          rejected.append(Rejected(image.key.text, error.reason))
        }
      }
      progress(
        Progress(
          done: part.endIndex, total: images.count, bytes: writers.reduce(0) { $0 + $1.byteCount },
          rejected: rejected.count))
    }
  }

  private func take(_ images: ArraySlice<SourceImage>, _ importers: inout [ImageImporter]) -> [Outcome] {
    var outcomes = [Outcome](repeating: .failure(ImageError("not read")), count: images.count)
    let first = images.startIndex
    outcomes.withUnsafeMutableBufferPointer { outcomes in
      importers.withUnsafeMutableBufferPointer { importers in
        team.run(images.count) { block, thread in
          do throws(ImageError) {
            let contents = try source.contents(of: images[first + block])
            outcomes[block] = .success(try importers[thread].take(contents))
          } catch { outcomes[block] = .failure(error) }
        }
      }
    }
    return outcomes
  }

  private mutating func store(
    _ imported: ImageImporter.Imported, _ image: SourceImage, _ classes: ClassMap, _ writers: [DataSetWriter]
  ) throws(FileError) {
    var record = imported.record
    record.label = classes.label(image.label)
    if image.label >= 0, record.label < 0 { unlabelled += 1 }
    let key = image.key.text
    let heldOut = options.split.map { Split.holdsOut(key, $0) } ?? false
    try imported.bytes.withUnsafeBufferPointer { (bytes) throws(FileError) in
      try writers[heldOut ? 1 : 0].append(UnsafeRawBufferPointer(bytes), record, key: key)
    }
    channelCounts[record.channels, default: 0] += 1
    let width = imported.sums.sum.count
    if !heldOut { sums[width, default: ChannelSums(channels: width)].add(imported.sums) }
  }

  // MARK: The whole

  /// Mean and deviation over the images that are not held out; both parts carry the same.
  private func description() throws(FileError) -> (mean: [Double], deviation: [Double]) {
    if let like = options.like { return (like.mean, like.deviation) }
    let stored = Set(channelCounts.keys.map { $0 == 4 ? 3 : $0 })
    let channels = self.channels ?? (stored.count == 1 ? stored.first! : 3)
    var total = ChannelSums(channels: channels)
    for (_, part) in sums.sorted(by: { $0.key < $1.key }) { total.add(part) }
    return (total.mean, total.deviation)
  }

  private func writeRejected(_ folder: String) throws(FileError) {
    let ignored = source.listing.ignored.map { Rejected($0.text, "its name is not that of an image") }
    let all = rejected + ignored
    if all.isEmpty { return }
    func line(_ text: String) -> String { text.map { $0.isNewline || $0 == "\t" ? " " : String($0) }.joined() }
    let text = "key\treason\n" + all.map { line($0.key) + "\t" + line($0.reason) + "\n" }.joined()
    let file = try RandomAccessFile(creating: folder + "/" + Self.rejectedFile)
    try file.write(Array(text.utf8), at: 0)
    try file.synchronise()
    try file.close()
  }
}
