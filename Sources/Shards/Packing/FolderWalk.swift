import Files
import Foundation

/// Finds all files below a folder, each folder once.
///
/// A link to a folder is followed after all folders that really lie below, in the order of the names. A folder that was
/// read already, or that holds the folder that the walk started from, is not read again but listed under `rejected`; so
/// links in a circle end. Names that start with a dot are left out.
struct FolderWalk {
  private struct Identity: Hashable {
    let device: UInt64, inode: UInt64

    init(_ status: stat) {
      device = UInt64(status.st_dev)
      inode = UInt64(status.st_ino)
    }
  }

  private let root: Name
  /// Paths below the root.
  private(set) var files: [Name] = []
  private(set) var rejected: [Rejected] = []
  private var folders: [Name] = [""]
  private var links: [Name] = []
  private var visited: Set<Identity> = []
  private var above: Set<Identity> = []

  /// - Throws: `FileError` where the root cannot be read, `Interrupted` after a signal.
  init(_ root: Name) throws {
    self.root = root
    above = Self.above(root)
    try readFolders()
    while !links.isEmpty {
      let round = links.sorted()
      links = []
      for link in round {
        folders = [link]
        try readFolders()
      }
    }
  }

  /// The folders that hold the root.
  private static func above(_ root: Name) -> Set<Identity> {
    var found: Set<Identity> = []
    var path = root.appending("..")
    var status = stat()
    while path.withPath({ stat($0, &status) }) == 0, found.insert(Identity(status)).inserted {
      path = path.appending("..")
    }
    return found
  }

  private mutating func readFolders() throws {
    while let folder = folders.popLast() {
      try Interruption.check()
      try read(folder)
    }
  }

  private mutating func read(_ folder: Name) throws {
    let path = folder.bytes.isEmpty ? root : root.appending(folder)
    guard let stream = path.withPath({ opendir($0) }) else {
      if folder.bytes.isEmpty { throw FileError.system(path.text, "read") }
      reject(folder, "the folder cannot be read: " + String(cString: strerror(errno)))
      return
    }
    defer { closedir(stream) }
    var status = stat()
    if fstat(dirfd(stream), &status) != 0 { throw FileError.system(path.text, "read") }
    let identity = Identity(status)
    if above.contains(identity), !folder.bytes.isEmpty {
      return reject(folder, "it leads to a folder that holds this one")
    }
    guard visited.insert(identity).inserted else {
      return reject(folder, "it leads to a folder that was read already")
    }
    errno = 0
    var count = 0
    while let entry = readdir(stream) {
      count += 1
      if count % 1024 == 0 { try Interruption.check() }
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { raw in Name(raw.prefix { $0 != 0 }) }
      add(name, entry.pointee.d_type, in: folder)
      errno = 0
    }
    if errno != 0 { reject(folder, "the folder cannot be read to its end: " + String(cString: strerror(errno))) }
  }

  private mutating func add(_ name: Name, _ type: UInt8, in folder: Name) {
    if name.bytes.first == UInt8(ascii: ".") { return }
    let key = folder.appending(name)
    let path = root.appending(key)
    var kind = Int32(type)
    var status = stat()
    if kind == Int32(DT_UNKNOWN), path.withPath({ lstat($0, &status) }) == 0 {
      let kinds = [S_IFDIR: Int32(DT_DIR), S_IFLNK: Int32(DT_LNK)]
      kind = kinds[status.st_mode & S_IFMT] ?? Int32(DT_REG)
    }
    if kind == Int32(DT_DIR) {
      folders.append(key)
    } else if kind == Int32(DT_LNK), path.withPath({ stat($0, &status) }) == 0, status.st_mode & S_IFMT == S_IFDIR {
      links.append(key)
    } else {
      files.append(key)
    }
  }

  private mutating func reject(_ key: Name, _ reason: String) { rejected.append(Rejected(key.text, reason)) }
}
