import Files
import Foundation
import HDF5

/// Writes one shard. Image bytes are written directly to their place in the final file. HDF5 lays out everything else
/// in a sparse file beside it, which is then copied around them. So image bytes are written once, and the number of
/// images need not be known in advance.
final class ShardWriter {
  let path: String
  private(set) var records: [ImageRecord] = []
  private(set) var byteCount = 0
  private var keys: [String] = []
  private var file: RandomAccessFile
  /// Offset at which HDF5 places `bytes`, independent of its size.
  private let bytesOffset: Int
  /// Range of the image bytes in the file.
  var bytesRange: Range<Int> { bytesOffset..<bytesOffset + byteCount }

  init(_ path: String) throws(FileError) {
    self.path = path
    let layout = path + ".layout"
    defer { unlink(layout) }
    bytesOffset = try Self.reserve(1, layout)
    file = try RandomAccessFile(creating: path)
  }

  /// Creates an HDF5 file with `bytes` alone, and returns its offset.
  private static func reserve(_ byteCount: Int, _ path: String) throws(FileError) -> Int {
    let layout = try HDF5File.create(path, alignment: Format.alignment)
    try layout.reserve(bytes: byteCount, as: "bytes")
    try layout.close()
    return try HDF5File.open(path).offset(of: "bytes")
  }

  /// Adds an image. The record's offset and length are filled in here.
  func append(_ bytes: UnsafeRawBufferPointer, _ record: ImageRecord, key: String) throws(FileError) {
    try file.write(bytes, at: bytesOffset + byteCount)
    var record = record
    record.offset = byteCount
    record.length = bytes.count
    records.append(record)
    keys.append(key)
    byteCount += bytes.count
  }

  /// Writes the index around the bytes. `SetDescription.write` adds the attributes of the whole set later.
  func finish(classNames: [String]) throws(FileError) {
    let layout = path + ".layout"
    defer { unlink(layout) }
    try writeLayout(layout, classNames)
    let source = try RandomAccessFile(opening: layout)
    let size = try source.size()
    try file.copy(0..<bytesOffset, from: source)
    try file.copy(bytesOffset + byteCount..<size, from: source)
    try file.close()
    keys = []
  }

  private func writeLayout(_ path: String, _ classNames: [String]) throws(FileError) {
    let records = self.records
    let keys = self.keys
    let offset = try Self.reserve(byteCount, path)
    precondition(offset == bytesOffset, "HDF5 put \(byteCount) bytes at \(offset), 1 byte at \(bytesOffset)")
    let index = try HDF5File.update(path)  // reopened, because the index needs no alignment
    try index.write(records.map { Int64($0.offset) }, to: "index/offset")
    try index.write(records.map { Int64($0.length) }, to: "index/length")
    try index.write(records.map { Int32($0.width) }, to: "index/width")
    try index.write(records.map { Int32($0.height) }, to: "index/height")
    try index.write(records.map { UInt8($0.channels) }, to: "index/channels")
    try index.write(records.map { UInt8($0.depth) }, to: "index/depth")
    try index.write(records.map(\.encoding.rawValue), to: "index/encoding")
    try index.write(records.map(\.orientation), to: "index/orientation")
    try index.write(records.map(\.colour), to: "index/colour")
    try index.write(records.map(\.checksum), to: "index/checksum")
    try index.write(records.map(\.label), to: "index/label")
    try index.write(records.map(\.group), to: "index/group")
    try index.write(keys, to: "index/key")
    if !classNames.isEmpty { try index.write(classNames, to: "class_names") }
    try index.close()
  }
}

/// The attributes of a whole set, which every shard holds.
struct SetDescription {
  var channels: Int
  var mean: [Double]
  var deviation: [Double]
  var shards: Int
  var images: Int
  var fingerprint: UInt64

  /// Writes the attributes of one finished shard. Only the seal is then missing.
  func write(to path: String, shard: Int, first: Int, images: Int, fingerprint own: UInt64) throws(FileError) {
    let file = try HDF5File.update(path)
    try file.set(.text(Format.kind), for: "kind")
    try file.set(.integer(Int64(Format.version)), for: "format")
    try file.set(.integer(Int64(shard)), for: "shard")
    try file.set(.integer(Int64(shards)), for: "shards")
    try file.set(.integer(Int64(first)), for: "first")
    try file.set(.integer(Int64(images)), for: "images")
    try file.set(.integer(Int64(self.images)), for: "images_total")
    try file.set(.integer(Int64(channels)), for: "channels")
    try file.set(.reals(mean), for: "mean")
    try file.set(.reals(deviation), for: "deviation")
    try file.set(.text(Fingerprint.text(own)), for: "shard_fingerprint")
    try file.set(.text(Fingerprint.text(fingerprint)), for: "fingerprint")
    try file.close()
  }
}
