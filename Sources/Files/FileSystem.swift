import Foundation

/// Folders, and the disks that they are on.
package enum FileSystem {
  /// The folder that a path is in.
  package static func parent(of path: String) -> String {
    let path = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// The path, or the nearest above it that exists.
  package static func nearest(above path: String) -> String {
    var folder = path
    while access(folder, F_OK) != 0, folder != "/", folder != "." { folder = parent(of: folder) }
    return folder
  }

  /// Bytes free on the file system of a path, or of the nearest folder above it that exists; nil where unknown.
  package static func freeBytes(at path: String) -> Int64? {
    var status = statvfs()
    guard statvfs(nearest(above: path), &status) == 0 else { return nil }
    return Int64(status.f_bavail) * Int64(status.f_frsize)
  }

  /// Waits until a file, or a folder's list of names, is on disk.
  package static func flush(_ path: String) throws(FileError) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError(path, "flush") }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw FileError(path, "flush") }
  }
}
