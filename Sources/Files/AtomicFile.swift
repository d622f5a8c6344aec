import Foundation

/// Writes a file whole or not at all: into a new file beside it, to disk, then renamed over it. Everything that the
/// program writes in one piece goes through here.
///
/// What stands at the path decides how:
/// - nothing, or a regular file: it is replaced, and keeps its permissions;
/// - a link: it stays, and what it points to is replaced;
/// - a device, a pipe, a socket, or an open file such as `/dev/stdout`: the bytes go into it, for it cannot be
///   replaced;
/// - a folder: refused.
package final class AtomicFile {
  /// As the caller named it.
  private let path: String
  private var descriptor: Int32
  /// Where the bytes go first and then; nil where they go straight into what is there.
  private var replacement: (aside: String, target: String)?

  /// - Throws: `FileError` where nothing can be written there.
  package init(_ path: String) throws(FileError) {
    self.path = path
    switch try Self.destination(of: path) {
    case .existing:
      descriptor = open(path, O_WRONLY | O_APPEND | O_CLOEXEC)
      if descriptor < 0 { throw FileError(path, "write") }
    case .replaced(let target, let permissions):
      let aside = "\(target).\(getpid()).partial"
      // What a killed process of the same number left behind, and no link that somebody else put there.
      unlink(aside)
      descriptor = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
      if descriptor < 0 { throw FileError(path, "write") }
      replacement = (aside, target)
      if let permissions { fchmod(descriptor, permissions) }
    }
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
    if let replacement { unlink(replacement.aside) }
  }

  package func write(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
    guard Descriptor.write(bytes, to: descriptor) else { throw FileError(path, "write") }
  }

  package func write(_ bytes: [UInt8]) throws(FileError) {
    guard bytes.withUnsafeBytes({ Descriptor.write($0, to: descriptor) }) else { throw FileError(path, "write") }
  }

  /// Puts what was written in its place. Without this call nothing of it stays.
  package func commit() throws(FileError) {
    // A pipe or a device has no disk to wait for.
    if replacement != nil, fsync(descriptor) != 0 { throw FileError(path, "write") }
    let closing = descriptor
    descriptor = -1
    if close(closing) != 0 { throw FileError(path, "write") }
    guard let (aside, target) = replacement else { return }
    if rename(aside, target) != 0 { throw FileError(path, "replace") }
    replacement = nil
    // A rename is lasting only when its folder is. Some file systems refuse to flush folders; the file is whole.
    try? FileSystem.flush(FileSystem.parent(of: target))
  }

  /// Writes all bytes at once.
  package static func write(_ bytes: [UInt8], to path: String) throws(FileError) {
    let file = try AtomicFile(path)
    try file.write(bytes)
    try file.commit()
  }

  package static func write(_ text: String, to path: String) throws(FileError) { try write(Array(text.utf8), to: path) }

  // MARK: Where the bytes go

  /// Refuses, before any work, a place whose bytes cannot be read back: a pipe, a device or an open file.
  /// - Throws: `FileError` also where nothing can be written there at all.
  package static func requireFile(_ path: String) throws(FileError) {
    if case .existing = try destination(of: path) {
      throw FileError(
        path, "write",
        "it is a pipe, a device or an open file, where what was written cannot be read back; give the name of a file")
    }
  }

  private enum Destination {
    /// Into what is there.
    case existing
    /// In place of the target, whose permissions they get.
    case replaced(target: String, permissions: mode_t?)
  }

  private static func destination(of path: String) throws(FileError) -> Destination {
    var status = stat()
    if stat(path, &status) == 0 {
      let kind = status.st_mode & S_IFMT
      if kind == S_IFDIR { throw FileError(path, "write", "it is a folder; give the name of a file") }
      if kind != S_IFREG { return .existing }
      if access(path, W_OK) != 0 { throw FileError(path, "write") }
      guard let target = try follow(path) else { return .existing }
      return .replaced(target: target, permissions: status.st_mode & 0o7777)
    }
    guard errno == ENOENT else { throw FileError(path, "write") }
    guard let target = try follow(path) else { return .existing }
    return .replaced(target: target, permissions: nil)
  }

  /// The path at the end of a chain of links, which need not exist; nil for a link to an open file of a process.
  private static func follow(_ path: String) throws(FileError) -> String? {
    var target = path
    for _ in 0..<40 {
      var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
      let count = buffer.withUnsafeMutableBytes {
        readlink(target, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
      }
      if count < 0 { return target }
      // Links such as /proc/self/fd/1 name open files, and their text is no path to write beside.
      if isOpenFile(target) { return nil }
      let link = String(decoding: buffer[..<count], as: UTF8.self)
      target = link.hasPrefix("/") ? link : FileSystem.parent(of: target) + "/" + link
    }
    throw FileError(path, "write", "it is a link that leads back to itself")
  }

  private static func isOpenFile(_ link: String) -> Bool {
    guard let resolved = realpath(FileSystem.parent(of: link), nil) else { return false }
    defer { free(resolved) }
    return String(cString: resolved).hasPrefix("/proc/")
  }
}
