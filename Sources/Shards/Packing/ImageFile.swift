import Files
import Foundation

/// Files of images, opened by the bytes of their names.
enum ImageFile {
  /// Bytes of the largest file that is read.
  static let largest = 1 << 31

  /// Looks at a path without opening it.
  /// - Returns: the size of the plain file that is there.
  /// - Throws: what is there instead.
  @discardableResult
  static func check(_ path: Name) throws(ImageError) -> Int {
    var status = stat()
    guard path.withPath({ stat($0, &status) }) == 0 else {
      let code = errno
      let isLink = path.withPath { lstat($0, &status) } == 0
      throw ImageError(code == ENOENT && isLink ? "it is a broken symbolic link" : unreadable(code))
    }
    switch status.st_mode & S_IFMT {
    case S_IFREG: break
    case S_IFDIR: throw ImageError("it is a folder")
    default: throw ImageError("it is no plain file")
    }
    guard status.st_size <= largest else { throw ImageError("it has \(status.st_size) bytes, the most is 2 GiB") }
    return Int(status.st_size)
  }

  /// All bytes of a plain file.
  static func contents(_ path: Name) throws(ImageError) -> [UInt8] { try read(path, try check(path)) }

  /// The first bytes of a plain file, at most 512; none where it cannot be read.
  static func start(_ path: Name) -> [UInt8] {
    guard let size = try? check(path) else { return [] }
    return (try? read(path, min(size, 512))) ?? []
  }

  private static func read(_ path: Name, _ count: Int) throws(ImageError) -> [UInt8] {
    let descriptor = path.withPath { open($0, O_RDONLY | O_CLOEXEC) }
    guard descriptor >= 0 else { throw ImageError(unreadable(errno)) }
    do throws(FileError) {
      return try RandomAccessFile(descriptor, path.text).read(0..<count)
    } catch { throw ImageError("it cannot be read: " + error.found) }
  }

  private static func unreadable(_ code: Int32) -> String { "it cannot be read: " + String(cString: strerror(code)) }
}
