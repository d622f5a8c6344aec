/// Format 1 of a shard, a strict subset of HDF5 that `h5dump` and `h5py` can read.
///
/// A data set is a folder of `shard-00000.h5`, `shard-00001.h5`, ... Each holds
///
///     bytes                 uint8 (B)      the images one after the other, no gaps, in one piece of the file
///     index/offset          int64 (N)      first byte of each image in `bytes`
///     index/length          int64 (N)      number of its bytes
///     index/width, height   int32 (N)      upright size
///     index/channels, depth, encoding, orientation, colour   uint8 (N)   see `ImageRecord`
///     index/checksum        uint32 (N)     CRC-32 of its bytes
///     index/label           int32 (N)      class, -1 for none
///     index/group           int64 (N)      -1 for none
///     index/key             string (N)     unique name, fixed length, UTF-8, null-padded
///     class_names           string (K)     only where there are classes
///
/// and on the root group the attributes `kind` ("apus shard"), `format` (1), `shard` (its number) and `shards` (how
/// many there are), `first` (sample number of the first image), `images`, `images_total`, `channels` (of a decoded
/// image), `mean` and `deviation` (per channel, of values in [0, 1], over all pixels that the set was packed with),
/// `shard_fingerprint` and `fingerprint` (hexadecimal, see `Fingerprint`). All numbers are little-endian, and all
/// datasets contiguous. A `Seal` follows HDF5's data.
enum Format {
  static let version = 1
  static let kind = "apus shard"
  /// `bytes` starts at a multiple of this, one page.
  static let alignment = 4096

  static func shardName(_ number: Int) -> String {
    let digits = String(number)
    return "shard-" + String(repeating: "0", count: max(0, 5 - digits.count)) + digits + ".h5"
  }

  /// The number in a shard's file name; nil for any other name.
  static func shardNumber(_ name: String) -> Int? {
    guard name.hasPrefix("shard-"), name.hasSuffix(".h5"), let number = Int(name.dropFirst(6).dropLast(3)), number >= 0,
      shardName(number) == name
    else { return nil }
    return number
  }
}

/// Hash of index entries in their order, independent of how they are divided into shards. It covers the checksums of
/// the bytes but not the names.
package struct Fingerprint: Sendable {
  package private(set) var value: UInt64 = 0x9E37_79B9_7F4A_7C15

  /// The hash of no images.
  package init() {}

  /// Adds the next image's entry.
  package mutating func add(_ r: ImageRecord) {
    mix(UInt64(r.checksum) | UInt64(UInt32(bitPattern: r.label)) << 32)
    mix(UInt64(UInt32(truncatingIfNeeded: r.width)) | UInt64(UInt32(truncatingIfNeeded: r.height)) << 32)
    mix(UInt64(truncatingIfNeeded: r.length))
    mix(UInt64(bitPattern: r.group))
    let small = [r.channels, r.depth, Int(r.encoding.rawValue), Int(r.orientation), Int(r.colour)]
    mix(small.reduce(0) { $0 << 8 | UInt64(truncatingIfNeeded: $1) })
  }

  /// SplitMix64's finaliser (Steele, Lea, Flood 2014) over the state and one word.
  private mutating func mix(_ word: UInt64) {
    var z = (value ^ word) &+ 0x9E37_79B9_7F4A_7C15
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    value = z ^ z >> 31
  }

  /// The value as sixteen hexadecimal digits.
  package var text: String { Self.text(value) }

  /// A value as sixteen hexadecimal digits.
  package static func text(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}
