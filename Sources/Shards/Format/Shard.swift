import Files
import Foundation
import HDF5

/// One validated shard of a data set.
package struct Shard: Sendable {
  /// Path of the file.
  package let path: String
  /// Its samples, as numbers of the data set.
  package let samples: Range<Int>
  /// Number of image bytes.
  package let byteCount: Int
  /// Offset of the image bytes in the file.
  package let bytesOffset: Int
  let keysOffset: Int
  let keyLength: Int
  let file: RandomAccessFile
}

/// A shard's attributes of the whole set, which must be equal in all shards.
struct ShardHeader: Equatable {
  var shards: Int
  var imagesTotal: Int
  var channels: Int
  var mean: [Double]
  var deviation: [Double]
  var fingerprint: UInt64
  var classNames: [String]
}

/// Reads and validates one shard with HDF5. Afterwards the file is read by `pread`.
struct ShardReader {
  let path: String
  let file: HDF5File
  let number: Int
  let first: Int
  let images: Int
  let ownFingerprint: UInt64
  let header: ShardHeader
  private let sealed: Range<Int>

  init(_ path: String) throws(FileError) {
    self.path = path
    sealed = try Seal.check(path)
    file = try HDF5File.open(path)
    guard case .text(Format.kind)? = try? file.attribute("kind") else {
      throw FileError(path, "read", "it is an HDF5 file, but no apus shard; pack the images with `apus pack`")
    }
    let version = try Self.integer(file, "format")
    guard version == Format.version else {
      throw FileError(
        path, "read",
        "attribute \"format\" is \(version), this build reads \(Format.version); pack again or update apus")
    }
    number = try Self.integer(file, "shard")
    first = try Self.integer(file, "first")
    images = try Self.integer(file, "images")
    ownFingerprint = try Self.fingerprint(file, "shard_fingerprint")
    header = try Self.header(file)
    try checkHeader()
  }

  private static func header(_ file: HDF5File) throws(FileError) -> ShardHeader {
    let hasClasses = try file.names().contains("class_names")
    return ShardHeader(
      shards: try integer(file, "shards"), imagesTotal: try integer(file, "images_total"),
      channels: try integer(file, "channels"), mean: try reals(file, "mean"), deviation: try reals(file, "deviation"),
      fingerprint: try fingerprint(file, "fingerprint"),
      classNames: hasClasses ? try file.readTexts("class_names") : [])
  }

  private func checkHeader() throws(FileError) {
    let h = header
    guard (1...64).contains(h.channels), h.mean.count == h.channels, h.deviation.count == h.channels else {
      throw damaged("it has \(h.channels) channels, \(h.mean.count) means and \(h.deviation.count) deviations")
    }
    guard h.mean.allSatisfy({ (0...1).contains($0) }), h.deviation.allSatisfy({ (0...1).contains($0) }) else {
      throw damaged("its mean \(h.mean) or deviation \(h.deviation) is outside of 0 ... 1")
    }
    guard images > 0, first >= 0, images <= h.imagesTotal, first <= h.imagesTotal - images else {
      throw damaged("it claims images \(first) ... \(first) + \(images) of \(h.imagesTotal)")
    }
    guard (0..<h.shards).contains(number) else { throw damaged("it claims to be shard \(number) of \(h.shards)") }
  }

  /// Validates the index against the file and returns it.
  /// - Parameter first: the sample number of its first image.
  func load(first: Int) throws(FileError) -> (shard: Shard, records: [ImageRecord]) {
    let size = try file.shape(of: "bytes")
    let isBytes = (try? file.type(of: "bytes")) == .uint8
    guard size.count == 1, size[0] > 0, isBytes else { throw damaged("\"bytes\" is not a row of bytes") }
    let offset = try file.offset(of: "bytes")
    guard sealed == offset..<offset + size[0] else {
      throw damaged("\"bytes\" lies at \(offset) + \(size[0]), its seal says \(sealed)")
    }
    let records = try readIndex()
    try check(records, byteCount: size[0])
    let keys = (try file.shape(of: "index/key"), try file.textLayout(of: "index/key"))
    guard keys.0 == [images] else { throw damaged("\"index/key\" has the shape \(keys.0), expected [\(images)]") }
    let shard = Shard(
      path: path, samples: first..<first + images, byteCount: size[0], bytesOffset: offset, keysOffset: keys.1.offset,
      keyLength: keys.1.element, file: try RandomAccessFile(opening: path))
    return (shard, records)
  }

  private func column<T: HDF5Scalar>(_ name: String, _: T.Type) throws(FileError) -> [T] {
    let shape = try file.shape(of: "index/" + name)
    guard shape == [images] else {
      throw FileError(path, "read", "damaged shard: \"index/\(name)\" has the shape \(shape), expected [\(images)]")
    }
    return try file.read("index/" + name, as: T.self)
  }

  private func readIndex() throws(FileError) -> [ImageRecord] {
    let offset = try column("offset", Int64.self)
    let length = try column("length", Int64.self)
    let width = try column("width", Int32.self)
    let height = try column("height", Int32.self)
    let channels = try column("channels", UInt8.self)
    let depth = try column("depth", UInt8.self)
    let encoding = try column("encoding", UInt8.self)
    let orientation = try column("orientation", UInt8.self)
    let colour = try column("colour", UInt8.self)
    let checksum = try column("checksum", UInt32.self)
    let label = try column("label", Int32.self)
    let group = try column("group", Int64.self)
    var records: [ImageRecord] = []
    records.reserveCapacity(images)
    for i in 0..<images {
      guard let kind = Encoding(rawValue: encoding[i]) else {
        throw damaged("image \(i) has encoding \(encoding[i]), known are 1 (JPEG) and 2 (raw)")
      }
      records.append(
        ImageRecord(
          offset: Int(offset[i]), length: Int(length[i]), width: Int(width[i]), height: Int(height[i]),
          channels: Int(channels[i]), depth: Int(depth[i]), encoding: kind, orientation: orientation[i],
          colour: colour[i], checksum: checksum[i], label: label[i], group: group[i]))
    }
    return records
  }

  private func check(_ records: [ImageRecord], byteCount: Int) throws(FileError) {
    var end = 0
    var fingerprint = Fingerprint()
    for (i, r) in records.enumerated() {
      guard r.offset == end, r.length > 0, r.length <= byteCount - end else {
        throw damaged("image \(i) claims bytes \(r.offset) + \(r.length); expected to start at \(end) of \(byteCount)")
      }
      end += r.length
      if let reason = implausible(r) { throw damaged("image \(i) \(reason)") }
      fingerprint.add(r)
    }
    guard end == byteCount else { throw damaged("its images take \(end) bytes, \"bytes\" has \(byteCount)") }
    guard fingerprint.value == ownFingerprint else { throw damaged("its index does not match its fingerprint") }
  }

  private func implausible(_ r: ImageRecord) -> String? {
    guard r.width > 0, r.height > 0, r.width * r.height <= ImageDecoder.largest else {
      return "claims \(r.width) x \(r.height) pixels"
    }
    guard (1...8).contains(r.orientation) else { return "has orientation \(r.orientation)" }
    let known = header.classNames.count
    guard r.label >= -1, Int(r.label) < known else { return "has label \(r.label) of \(known) classes" }
    guard r.group >= -1 else { return "has group \(r.group)" }
    let convertible = r.channels == header.channels || [1, 3].contains(r.channels) && [1, 3].contains(header.channels)
    switch r.encoding {
    case .jpeg:
      guard r.depth == 8, [1, 3, 4].contains(r.channels), [1, 3].contains(header.channels) else {
        return "is a JPEG of \(r.channels) channels of \(r.depth) bits in a set of \(header.channels) channels"
      }
    case .raw:
      guard convertible, r.depth == 8 || r.depth == 16, r.orientation == 1 else {
        return "has \(r.channels) channels of \(r.depth) bits in a set of \(header.channels) channels"
      }
      guard r.width * r.height * r.channels * (r.depth / 8) == r.length else {
        return "has \(r.length) bytes for \(r.width) x \(r.height) x \(r.channels) samples of \(r.depth) bits"
      }
    }
    return nil
  }

  // MARK: Attributes

  func damaged(_ found: String) -> FileError {
    FileError(path, "read", "damaged shard: \(found); copy it again or pack again")
  }

  private static func integer(_ file: HDF5File, _ name: String) throws(FileError) -> Int {
    if case .integer(let number) = try file.attribute(name) { return Int(number) }
    throw FileError(file.path, "read", "attribute \"\(name)\" is no integer")
  }

  private static func reals(_ file: HDF5File, _ name: String) throws(FileError) -> [Double] {
    if case .reals(let numbers) = try file.attribute(name) { return numbers }
    throw FileError(file.path, "read", "attribute \"\(name)\" is no list of numbers")
  }

  private static func fingerprint(_ file: HDF5File, _ name: String) throws(FileError) -> UInt64 {
    if case .text(let text) = try file.attribute(name), let number = UInt64(text, radix: 16) { return number }
    throw FileError(file.path, "read", "attribute \"\(name)\" is no fingerprint")
  }
}
