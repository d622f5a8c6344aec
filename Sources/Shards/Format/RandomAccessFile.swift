import Files
import Foundation

/// A file that is read and written at given offsets. Any number of threads may read at the same time.
final class RandomAccessFile: @unchecked Sendable {
  let path: String
  private var descriptor: Int32

  init(opening path: String) throws(FileError) {
    self.path = path
    descriptor = open(path, O_RDONLY | O_CLOEXEC)
    if descriptor < 0 { throw FileError.system(path, "open") }
  }

  /// Takes ownership of an open descriptor.
  init(_ descriptor: Int32, _ path: String) {
    self.descriptor = descriptor
    self.path = path
  }

  init(creating path: String) throws(FileError) {
    self.path = path
    descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    if descriptor < 0 { throw FileError.system(path, "create") }
  }

  init(updating path: String) throws(FileError) {
    self.path = path
    descriptor = open(path, O_RDWR | O_CLOEXEC)
    if descriptor < 0 { throw FileError.system(path, "open") }
  }

  deinit { if descriptor >= 0 { _ = Foundation.close(descriptor) } }

  func size() throws(FileError) -> Int {
    var status = stat()
    if fstat(descriptor, &status) != 0 { throw FileError.system(path, "read") }
    return Int(status.st_size)
  }

  /// Fills the whole buffer from `offset`.
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(FileError) {
    guard let done = Descriptor.read(descriptor, at: offset, into: buffer) else {
      throw FileError.system(path, "read")
    }
    guard done == buffer.count else {
      throw FileError(path, "read", "it ends at byte \(offset + done), \(buffer.count - done) before it should")
    }
  }

  /// The bytes of a range, which must lie inside the file.
  func read(_ range: Range<Int>) throws(FileError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: range.count)
    try bytes.withUnsafeMutableBufferPointer { (buffer) throws(FileError) in
      try read(into: UnsafeMutableRawBufferPointer(buffer), at: range.lowerBound)
    }
    return bytes
  }

  func write(_ bytes: [UInt8], at offset: Int) throws(FileError) {
    try bytes.withUnsafeBufferPointer { (buffer) throws(FileError) in
      try write(UnsafeRawBufferPointer(buffer), at: offset)
    }
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(FileError) {
    guard Descriptor.write(bytes, to: descriptor, at: offset) else { throw FileError.system(path, "write") }
  }

  /// Copies a range of another file to the same offset in this file.
  func copy(_ range: Range<Int>, from source: RandomAccessFile) throws(FileError) {
    var at = range.lowerBound
    while at < range.upperBound {
      let part = try source.read(at..<min(at + 1 << 20, range.upperBound))
      try write(part, at: at)
      at += part.count
    }
  }

  func synchronise() throws(FileError) {
    if fsync(descriptor) != 0 { throw FileError.system(path, "write") }
  }

  func close() throws(FileError) {
    let closing = descriptor
    descriptor = -1
    if closing >= 0, Foundation.close(closing) != 0 { throw FileError.system(path, "write") }
  }
}
