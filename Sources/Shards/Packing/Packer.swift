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
    package var shardSize = 1 << 30
    /// The first bad file ends it all, instead of being listed and left out.
    package var failsOnBad = false
    package var threads = 1
    /// 1 or 3; nil takes what all images share, else 3.
    package var channels: Int?
    package var force = false
    /// A data set whose channels, class names, mean and deviation are taken over.
    package var like: DataSet?

    package init() {}
  }

  package struct Progress: Sendable {
    package var done: Int, total: Int, bytes: Int, rejected: Int
  }

  package struct Report {
    /// One data set, or train and test.
    package var sets: [DataSet]
    package var rejected: [PackSource.Rejected]
    /// Images by stored channels.
    package var channelCounts: [Int: Int]
    /// Partial folders of earlier, killed processes.
    package var leftovers: [String]
  }

  private let source: PackSource
  private let options: Options
  private let team: ThreadTeam
  private var rejected: [PackSource.Rejected]
  private var channelCounts: [Int: Int] = [:]
  /// What all but the held-out images add up to, by the channels they were summed in.
  private var sums: [Int: ChannelSums] = [:]

  package init(_ source: PackSource, _ options: Options) {
    self.source = source
    self.options = options
    rejected = source.rejected
    team = ThreadTeam(count: options.threads)
  }

  private var channels: Int? { options.like?.channels ?? options.channels }

  /// Does it all; on any error nothing stays.
  /// - Throws: `ShardError`, or `Interrupted` after a signal.
  package mutating func pack(to out: String, progress: (Progress) -> Void) throws -> Report {
    if options.failsOnBad, let bad = rejected.first { throw ShardError(bad.key, "pack", bad.reason) }
    let classNames = try self.classNames()
    var images = Split.ordered(source.images)
    if let limit = options.limit { images.removeLast(max(0, images.count - limit)) }
    let staging = try Staging(out, force: options.force)
    try SpaceEstimate.check(images, source.idx, at: out)
    let writers = try self.writers(staging.path, classNames)
    try write(images, writers, progress)
    let described = try self.description()
    for writer in writers where writer.count == 0 {
      let name = writer.path.hasSuffix("/test") ? "test" : "train"
      let why =
        images.isEmpty || rejected.count >= images.count
        ? ": no file could be read, the first because "
          + (rejected.first?.reason ?? "there is none") : ", change --split"
      throw ShardError(out, "pack", "no image is left for \(writers.count == 1 ? "it" : name)" + why)
    }
    for writer in writers { try writer.finish(mean: described.mean, deviation: described.deviation) }
    try writeRejected(staging.path)
    try Interruption.check()
    try staging.commit()
    let parts = options.split == nil ? [""] : ["/train", "/test"]
    return Report(
      sets: try parts.map { try DataSet(at: staging.target + $0) }, rejected: rejected, channelCounts: channelCounts,
      leftovers: staging.leftovers)
  }

  private func writers(_ path: String, _ classNames: [String]) throws(ShardError) -> [DataSetWriter] {
    if options.split == nil {
      rmdir(path)  // the writer makes its own folder
      return [try DataSetWriter(path, classNames: classNames, shardSize: options.shardSize)]
    }
    return [
      try DataSetWriter(path + "/train", classNames: classNames, shardSize: options.shardSize),
      try DataSetWriter(path + "/test", classNames: classNames, shardSize: options.shardSize),
    ]
  }

  /// The source's classes, or those of the set that this one is to be like.
  private func classNames() throws(ShardError) -> [String] {
    guard let like = options.like, !source.classNames.isEmpty else { return source.classNames }
    guard like.classNames == source.classNames else {
      let extra = source.classNames.filter { !like.classNames.contains($0) }
      let what = extra.isEmpty ? "\(source.classNames.count) of its classes" : "other classes, such as \"\(extra[0])\""
      throw ShardError(like.path, "pack like", "the source has \(what); both must have the same")
    }
    return like.classNames
  }

  // MARK: Images

  private typealias Outcome = Result<ImageImporter.Imported, ImageError>

  /// Decodes in parallel, a chunk at a time, and writes in order.
  private mutating func write(
    _ images: [PackSource.Image], _ writers: [DataSetWriter], _ progress: (Progress) -> Void
  ) throws {
    var importers = [ImageImporter](repeating: ImageImporter(channels: channels), count: options.threads)
    let chunk = 16 * options.threads
    for start in stride(from: 0, to: images.count, by: chunk) {
      try Interruption.check()
      let part = images[start..<min(start + chunk, images.count)]
      for (image, outcome) in zip(part, take(part, &importers)) {
        switch outcome {
        case .success(let imported): try store(imported, image, writers)
        case .failure(let error):
          if options.failsOnBad { throw ShardError(image.key, "pack", error.reason) }
          rejected.append(.init(image.key, error.reason))
        }
      }
      progress(
        Progress(
          done: part.endIndex, total: images.count, bytes: writers.reduce(0) { $0 + $1.byteCount },
          rejected: rejected.count))
    }
  }

  private func take(_ images: ArraySlice<PackSource.Image>, _ importers: inout [ImageImporter]) -> [Outcome] {
    var outcomes = [Outcome](repeating: .failure(ImageError("not read")), count: images.count)
    let first = images.startIndex
    outcomes.withUnsafeMutableBufferPointer { outcomes in
      importers.withUnsafeMutableBufferPointer { importers in
        team.run(images.count) { block, thread in
          do throws(ImageError) {
            switch images[first + block].location {
            case .file(let path): outcomes[block] = .success(try importers[thread].take(file: path))
            case .idx(let number):
              let idx = source.idx!
              outcomes[block] = .success(
                try importers[thread].take(
                  raw: idx.image(number), width: idx.width, height: idx.height, channels: idx.channels))
            }
          } catch { outcomes[block] = .failure(error) }
        }
      }
    }
    return outcomes
  }

  private mutating func store(
    _ imported: ImageImporter.Imported, _ image: PackSource.Image, _ writers: [DataSetWriter]
  ) throws(ShardError) {
    var record = imported.record
    record.label = image.label
    let heldOut = options.split.map { Split.holdsOut(image.key, $0) } ?? false
    var failure: ShardError?
    imported.bytes.withUnsafeBytes { bytes in
      do throws(ShardError) { try writers[heldOut ? 1 : 0].append(bytes, record, key: image.key) } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    channelCounts[record.channels, default: 0] += 1
    let width = imported.sums.sum.count
    if !heldOut { sums[width, default: ChannelSums(channels: width)].add(imported.sums) }
  }

  // MARK: The whole

  /// Mean and deviation over the images that are not held out; both parts carry the same.
  private func description() throws(ShardError) -> (mean: [Double], deviation: [Double]) {
    if let like = options.like { return (like.mean, like.deviation) }
    let stored = Set(channelCounts.keys.map { $0 == 4 ? 3 : $0 })
    let channels = self.channels ?? (stored.count == 1 ? stored.first! : 3)
    var total = ChannelSums(channels: channels)
    for (_, part) in sums.sorted(by: { $0.key < $1.key }) { total.add(part) }
    return (total.mean, total.deviation)
  }

  private func writeRejected(_ folder: String) throws(ShardError) {
    if rejected.isEmpty { return }
    func line(_ text: String) -> String { text.map { $0.isNewline || $0 == "\t" ? " " : String($0) }.joined() }
    let text = "key\treason\n" + rejected.map { line($0.key) + "\t" + line($0.reason) + "\n" }.joined()
    let file = try RandomAccessFile(creating: folder + "/rejected.tsv")
    try file.write(Array(text.utf8), at: 0)
    try file.synchronise()
    try file.close()
  }
}
