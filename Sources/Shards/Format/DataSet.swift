import Files
import Foundation
import Limits

/// A folder of shards, opened and validated: every offset lies inside its file, and the shards belong together. Images
/// are read with `pread`, from any thread and without a lock.
package final class DataSet: @unchecked Sendable {
  /// Path of the folder, or of the one shard.
  package let path: String
  /// Number of images.
  package let count: Int
  /// Channels of a decoded image.
  package let channels: Int
  /// Names of the classes 0, 1, ...; empty if the set has no labels.
  package let classNames: [String]
  /// Mean of each channel, of values in [0, 1].
  package let mean: [Double]
  /// Standard deviation of each channel, of values in [0, 1].
  package let deviation: [Double]
  /// Hash of the images and labels in their order, independent of how they are divided into shards.
  package let fingerprint: UInt64
  /// The shards, in order.
  package let shards: [Shard]
  private let records: [CompactRecord]
  /// Bytes of the index in memory.
  package var indexBytes: Int { records.count * MemoryLayout<CompactRecord>.stride }

  /// Opens a folder of shards. Reads and checks every index, at about four million images per second.
  package convenience init(at path: String) throws(FileError) {
    try self.init(files: try Self.shardFiles(path), at: path)
  }

  /// Whether a folder is a data set.
  package static func isThere(at path: String) -> Bool {
    FileManager.default.fileExists(atPath: path + "/" + Format.shardName(0))
  }

  /// Opens one shard alone, for inspection. Its samples are numbered from 0.
  package convenience init(shard path: String) throws(FileError) {
    let reader = try ShardReader(path)
    let (shard, records) = try reader.load(first: 0)
    self.init(path, reader.header, [shard], records.map(CompactRecord.init), fingerprint: reader.ownFingerprint)
  }

  private convenience init(files: [String], at path: String) throws(FileError) {
    var shards: [Shard] = []
    var records: [CompactRecord] = []
    var header: ShardHeader?
    var fingerprint = Fingerprint()
    ProcessLimits.raiseOpenFiles(to: files.count + 256)  // every shard stays open
    for (number, name) in files.enumerated() {
      let reader = try ShardReader(path + "/" + name)
      let same = header ?? reader.header
      guard reader.header == same, reader.number == number, reader.first == records.count else {
        throw reader.damaged("it does not belong to the same data set as \(files[0]), or not at this place")
      }
      guard same.shards == files.count else {
        throw FileError(
          path, "read", "it has \(files.count) shards, they belong to a set of \(same.shards); copy the rest")
      }
      header = same
      let (shard, own) = try reader.load(first: reader.first)
      try? reader.file.close()
      shards.append(shard)
      records.reserveCapacity(min(same.imagesTotal, records.count + own.count))
      for record in own {
        records.append(CompactRecord(record))
        fingerprint.add(record)
      }
    }
    guard let header else { preconditionFailure("no shard files") }
    guard records.count == header.imagesTotal, fingerprint.value == header.fingerprint else {
      throw FileError(path, "read", "its \(records.count) images are not those that it was packed with; copy it again")
    }
    self.init(path, header, shards, records, fingerprint: header.fingerprint)
  }

  private init(
    _ path: String, _ header: ShardHeader, _ shards: [Shard], _ records: [CompactRecord], fingerprint: UInt64
  ) {
    self.path = path
    self.shards = shards
    self.records = records
    count = records.count
    channels = header.channels
    classNames = header.classNames
    mean = header.mean
    deviation = header.deviation
    self.fingerprint = fingerprint
  }

  /// Names of the shards in a folder, in order. Throws if one is missing.
  private static func shardFiles(_ path: String) throws(FileError) -> [String] {
    let names: [String]
    do { names = try FileManager.default.contentsOfDirectory(atPath: path) } catch {
      throw FileError(path, "read", "it is not a folder that can be read")
    }
    let numbers = names.compactMap(Format.shardNumber).sorted()
    guard !numbers.isEmpty else {
      let parts = ["train", "test"].filter(names.contains)
      let hint =
        parts.isEmpty ? "pack images with `apus pack`" : "name \(path)/\(parts.joined(separator: " or \(path)/"))"
      throw FileError(path, "read", "it has no shard-00000.h5; \(hint)")
    }
    for (place, number) in numbers.enumerated() where place != number {
      throw FileError(path, "read", "\(Format.shardName(place)) is missing; copy it again")
    }
    return numbers.map(Format.shardName)
  }

  // MARK: Index

  /// The index entry of a sample in 0 ..< count.
  package func record(_ sample: Int) -> ImageRecord { records[sample].expanded }

  /// Class of a sample; nil for none.
  package func label(_ sample: Int) -> Int? {
    let label = records[sample].label
    return label < 0 ? nil : Int(label)
  }

  /// Name of a sample, such as `cat/0001.jpg`. Each call reads it from the file.
  package func key(_ sample: Int) throws(FileError) -> String {
    let shard = shards[self.shard(of: sample)]
    var bytes = [UInt8](repeating: 0, count: shard.keyLength)
    try bytes.withUnsafeMutableBufferPointer { (buffer) throws(FileError) in
      try shard.file.read(
        into: UnsafeMutableRawBufferPointer(buffer),
        at: shard.keysOffset + (sample - shard.samples.lowerBound) * shard.keyLength)
    }
    return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }

  /// Index of the shard that holds a sample.
  package func shard(of sample: Int) -> Int {
    precondition(sample >= 0 && sample < count, "sample \(sample) of \(count)")
    var low = 0
    var high = shards.count - 1
    while low < high {
      let middle = (low + high) / 2
      if shards[middle].samples.upperBound <= sample { low = middle + 1 } else { high = middle }
    }
    return low
  }

  // MARK: Bytes

  /// Reads the bytes of one image into the start of `bytes`, which grows if it is too short.
  package func read(_ sample: Int, into bytes: inout [UInt8]) throws(FileError) {
    try read(samples: sample..<sample + 1, into: &bytes)
  }

  /// Reads the bytes of consecutive images of one shard with one call into the start of `bytes`, which grows if it is
  /// too short. Sample s starts at `record(s).offset - record(samples.lowerBound).offset`.
  package func read(samples: Range<Int>, into bytes: inout [UInt8]) throws(FileError) {
    precondition(!samples.isEmpty, "no samples to read")
    let shard = shards[self.shard(of: samples.lowerBound)]
    precondition(samples.upperBound <= shard.samples.upperBound, "samples \(samples) are not all in \(shard.path)")
    let first = records[samples.lowerBound]
    let last = records[samples.upperBound - 1]
    let count = Int(last.offset) + Int(last.length) - Int(first.offset)
    if bytes.count < count { bytes = [UInt8](repeating: 0, count: count) }
    try bytes.withUnsafeMutableBufferPointer { (buffer) throws(FileError) in
      let part = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[..<count])
      try shard.file.read(into: part, at: shard.bytesOffset + Int(first.offset))
    }
  }
}

/// A record in 48 bytes, because the whole index is kept in memory.
private struct CompactRecord {
  let offset: Int64, group: Int64
  let length: Int64
  let width: Int32, height: Int32, label: Int32
  let checksum: UInt32
  let channels: UInt8, depth: UInt8, encoding: Encoding, orientation: UInt8, colour: UInt8

  init(_ r: ImageRecord) {
    offset = Int64(r.offset)
    length = Int64(r.length)
    group = r.group
    width = Int32(r.width)
    height = Int32(r.height)
    label = r.label
    checksum = r.checksum
    channels = UInt8(r.channels)
    depth = UInt8(r.depth)
    encoding = r.encoding
    orientation = r.orientation
    colour = r.colour
  }

  var expanded: ImageRecord {
    ImageRecord(
      offset: Int(offset), length: Int(length), width: Int(width), height: Int(height), channels: Int(channels),
      depth: Int(depth), encoding: encoding, orientation: orientation, colour: colour, checksum: checksum, label: label,
      group: group)
  }
}
