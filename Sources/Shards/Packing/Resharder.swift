import Files
import Foundation

/// Spreads a data set over other shards, or holds a part out, without touching an image's bytes.
package struct Resharder {
  private static let readSize = 64 << 20

  private let source: DataSet

  package init(_ source: DataSet) { self.source = source }

  /// - Parameters:
  ///   - out: becomes a data set, or holds `train` and `test` with `split`.
  ///   - split: share that is held out, by the hash of the key that `pack` uses too.
  /// - Throws: `FileError` also where an image's bytes do not match their checksum; `Interrupted` after a signal.
  package func write(
    to out: String, shardSize: Int, split: Double?, force: Bool, progress: (Packer.Progress) -> Void
  ) throws -> [DataSet] {
    let staging = try Staging(out, force: force)
    let needed = source.shards.reduce(0) { $0 + $1.byteCount } + 256 * source.count
    if let free = Staging.freeSpace(out) { try SpaceEstimate.check(needed, free, out) }
    let parts = split == nil ? [""] : ["/train", "/test"]
    if split == nil { rmdir(staging.path) }
    let writers = try parts.map {
      try DataSetWriter(staging.path + $0, classNames: source.classNames, shardSize: shardSize)
    }
    for shard in source.shards { try copy(shard, split, writers, progress) }
    for writer in writers {
      guard writer.count > 0 else { throw FileError(out, "split", "no image is left for one part; change --split") }
      try writer.finish(mean: source.mean, deviation: source.deviation)
    }
    try Interruption.check()
    try staging.commit()
    return try parts.map { try DataSet(at: staging.target + $0) }
  }

  private func copy(
    _ shard: Shard, _ split: Double?, _ writers: [DataSetWriter], _ progress: (Packer.Progress) -> Void
  ) throws {
    var bytes: [UInt8] = []
    var start = shard.samples.lowerBound
    while start < shard.samples.upperBound {
      try Interruption.check()
      let first = source.record(start).offset
      var end = start + 1
      while end < shard.samples.upperBound,
        source.record(end).offset + source.record(end).length - first <= Self.readSize
      {
        end += 1
      }
      try source.read(samples: start..<end, into: &bytes)
      for sample in start..<end {
        let record = source.record(sample)
        let key = try source.key(sample)
        let writer = writers[split.map { Split.holdsOut(key, $0) } == true ? 1 : 0]
        try bytes.withUnsafeBytes { raw in
          let image = UnsafeRawBufferPointer(rebasing: raw[(record.offset - first)...].prefix(record.length))
          guard checksum(image) == record.checksum else {
            throw FileError(
              shard.path, "copy", "image \(key) does not match its checksum; run `apus inspect --verify`")
          }
          try writer.append(image, record, key: key)
        }
      }
      progress(
        .init(done: end, total: source.count, bytes: writers.reduce(0) { $0 + $1.byteCount }, rejected: 0))
      start = end
    }
  }
}
