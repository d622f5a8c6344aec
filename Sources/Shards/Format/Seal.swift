import CZlib
import Files
import Foundation

/// The last 32 bytes of a shard, after all that HDF5 reads: a CRC-32 of everything except the image bytes, which have
/// their own checksums. It is checked before HDF5 opens the file, because HDF5 can crash on damaged metadata.
///
///     "apusseal"   8 bytes
///     start, count of the image bytes   int64, int64
///     CRC-32 of [0, start) and [start + count, end - 32)   uint32
///     version (1)   uint32
package enum Seal {
  private static let magic = Array("apusseal".utf8)
  private static let size = 32
  private static let version: UInt32 = 1

  /// Appends the seal to a finished file that has none. If HDF5 changes the file afterwards, the seal is lost.
  package static func write(to path: String, bytes: Range<Int>) throws(FileError) {
    let file = try RandomAccessFile(updating: path)
    let end = try file.size()
    let crc = try checksum(file, bytes, end)
    var seal = magic
    for number in [UInt64(bytes.lowerBound), UInt64(bytes.count), UInt64(version) << 32 | UInt64(crc)] {
      withUnsafeBytes(of: number.littleEndian) { seal += $0 }
    }
    try file.write(seal, at: end)
    try file.synchronise()
    try file.close()
  }

  /// Checks a file's seal and returns the range of the image bytes.
  static func check(_ path: String) throws(FileError) -> Range<Int> {
    let file = try RandomAccessFile(opening: path)
    let end = try file.size() - size
    guard end > 0 else {
      throw FileError(path, "read", "it has \(end + size) bytes, no shard is so short; copy it again")
    }
    let seal = try file.read(end..<end + size)
    guard Array(seal[..<8]) == magic else {
      let start = try file.read(0..<8)
      let isHDF5 = start == [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]
      throw FileError(
        path, "read",
        isHDF5
          ? "it is an HDF5 file, but no apus shard, or one that is cut short or was changed; copy it or pack again"
          : "it is no apus shard; pack images with `apus pack`")
    }
    func number(_ at: Int) -> UInt64 { (0..<8).reduce(0) { $0 | UInt64(seal[at + $1]) << (8 * UInt64($1)) } }
    let start = number(8)
    let count = number(16)
    let last = number(24)
    guard UInt32(last >> 32) == version else {
      throw FileError(
        path, "read", "its seal has version \(last >> 32), this build reads \(version); pack again or update apus")
    }
    guard start <= UInt64(end), count <= UInt64(end) - start else {
      throw FileError(
        path, "read", "damaged shard: its seal claims image bytes \(start) + \(count) of \(end); copy it again")
    }
    let bytes = Int(start)..<Int(start + count)
    guard try checksum(file, bytes, end) == UInt32(truncatingIfNeeded: last) else {
      throw FileError(path, "read", "damaged shard: its index does not match its seal; copy it again or pack again")
    }
    return bytes
  }

  /// CRC-32 of a file up to `end`, excluding a range.
  private static func checksum(_ file: RandomAccessFile, _ without: Range<Int>, _ end: Int) throws(FileError) -> UInt32
  {
    var crc: UInt32 = 0
    for range in [0..<without.lowerBound, without.upperBound..<max(end, without.upperBound)] {
      var at = range.lowerBound
      while at < range.upperBound {
        let part = try file.read(at..<min(at + 1 << 20, range.upperBound))
        crc = czlib_crc32(crc, part, part.count)
        at += part.count
      }
    }
    return crc
  }
}
