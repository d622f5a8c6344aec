import Files
import Foundation

/// Writes a folder of shards: images in the order of `append`, and a new shard when one is full.
package final class DataSetWriter {
  /// Path of the folder.
  package let path: String
  /// Images so far.
  package private(set) var count = 0
  /// Image bytes so far.
  package private(set) var byteCount = 0
  private let classNames: [String]
  private let shardSize: Int
  private var current: ShardWriter?
  private var finished: [(path: String, first: Int, images: Int, fingerprint: UInt64, bytes: Range<Int>)] = []
  private var fingerprint = Fingerprint()
  private var own = Fingerprint()

  /// - Parameters:
  ///   - path: the folder, which is created; it must not exist.
  ///   - classNames: names of the classes 0, 1, ...; empty if there are none.
  ///   - shardSize: largest number of image bytes in a shard; a single image may exceed it.
  package init(_ path: String, classNames: [String], shardSize: Int) throws(FileError) {
    self.path = path
    self.classNames = classNames
    self.shardSize = shardSize
    if mkdir(path, 0o777) != 0 { throw FileError.system(path, "create") }
  }

  /// Adds an image.
  /// - Parameters:
  ///   - bytes: encoded as the record says.
  ///   - record: its offset, length and checksum are filled in here.
  package func append(_ bytes: UnsafeRawBufferPointer, _ record: ImageRecord, key: String) throws(FileError) {
    if let shard = current, shard.byteCount + bytes.count > shardSize { try finishShard(shard) }
    let shard: ShardWriter
    if let open = current {
      shard = open
    } else {
      shard = try ShardWriter(path + "/" + Format.shardName(finished.count))
      current = shard
    }
    var record = record
    record.checksum = checksum(bytes)
    record.length = bytes.count
    try shard.append(bytes, record, key: key)
    fingerprint.add(record)
    own.add(record)
    count += 1
    byteCount += bytes.count
  }

  private func finishShard(_ shard: ShardWriter) throws(FileError) {
    try shard.finish(classNames: classNames)
    let images = shard.records.count
    finished.append((shard.path, count - images, images, own.value, shard.bytesRange))
    own = Fingerprint()
    current = nil
  }

  /// Writes the attributes of the whole set into all shards, seals them, and checks the set by opening it. There must
  /// be at least one image.
  /// - Parameter mean, deviation: one value per channel.
  @discardableResult
  package func finish(mean: [Double], deviation: [Double]) throws(FileError) -> DataSet {
    precondition(mean.count == deviation.count && !mean.isEmpty, "\(mean.count) means, \(deviation.count) deviations")
    if let shard = current { try finishShard(shard) }
    let description = SetDescription(
      channels: mean.count, mean: mean, deviation: deviation, shards: finished.count, images: count,
      fingerprint: fingerprint.value)
    for (number, shard) in finished.enumerated() {
      try description.write(
        to: shard.path, shard: number, first: shard.first, images: shard.images, fingerprint: shard.fingerprint)
      try Seal.write(to: shard.path, bytes: shard.bytes)
    }
    return try DataSet(at: path)
  }
}
