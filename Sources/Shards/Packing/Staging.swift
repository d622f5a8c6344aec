import Files
import Foundation

/// A folder that is written beside its final place and renamed at the end, so that what bears the final name is whole.
/// Without `commit` nothing stays. Only what `pack` and `shard` write is ever replaced or removed.
package final class Staging {
  /// Where it will stand; where a link was named, what it leads to.
  package let target: String
  /// Where it is written: `TARGET.partial-PID`.
  package let path: String
  private let force: Bool
  private var committed = false

  /// - Parameter force: a data set at `target` is replaced at the end.
  /// - Throws: where anything else is there.
  package init(_ target: String, force: Bool) throws(FileError) {
    self.target = Self.place(target)
    self.force = force
    path = "\(self.target).partial-\(getpid())"
    try Self.check(target, force: force)
    // Folders above the target are made; they stay where the rest fails.
    let parent = Self.parent(self.target)
    try? FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
    if mkdir(path, 0o777) != 0 { throw FileError.system(path, "create") }
  }

  deinit { if !committed { try? FileManager.default.removeItem(atPath: path) } }

  /// Without slashes at its end, and past a link.
  private static func place(_ target: String) -> String {
    var target = target
    while target.count > 1, target.hasSuffix("/") { target.removeLast() }
    var status = stat()
    guard lstat(target, &status) == 0, status.st_mode & S_IFMT == S_IFLNK, let real = realpath(target, nil) else {
      return target
    }
    defer { free(real) }
    return String(cString: real)
  }

  /// Whether something stands at a target. For finding out before long work.
  /// - Throws: where it must not be replaced: without `force`, or where it holds anything that `pack` did not write.
  @discardableResult
  package static func check(_ target: String, force: Bool) throws(FileError) -> Bool {
    let place = place(target)
    var status = stat()
    guard lstat(place, &status) == 0 else { return false }
    guard force else {
      throw FileError(target, "create", "it already exists; choose another name, or --force to replace it")
    }
    let contents = try Contents(place)
    if let other = contents.others.first {
      let more = contents.others.count > 1 ? " and \(contents.others.count - 1) more" : ""
      throw FileError(
        target, "replace",
        contents.shards == 0
          ? "it is no data set of apus, so --force leaves it alone; remove it yourself"
          : "it holds \(other)\(more), which pack did not write; move that away or choose another name")
    }
    guard contents.shards > 0 else {
      throw FileError(target, "replace", "it is no data set of apus, so --force leaves it alone; remove it yourself")
    }
    return true
  }

  /// Puts the folder in its place.
  package func commit() throws(FileError) {
    // Looked at again: a run may have begun there in the meantime.
    let replaces = try Self.check(target, force: force)
    let old = "\(target).old-\(getpid())"
    if replaces, rename(target, old) != 0 { throw FileError.system(target, "replace") }
    if rename(path, target) != 0 {
      let code = errno
      if replaces { rename(old, target) }
      throw FileError.system(target, "create", code)
    }
    committed = true
    // Some file systems refuse to flush folders; what is in them is on disk.
    try? FileSystem.flush(target)
    try? FileSystem.flush(Self.parent(target))
    if replaces { try Contents(old).remove() }
  }

  /// Folders that killed processes left beside the target. After `commit`.
  package var leftovers: [String] {
    let parent = Self.parent(target)
    let name = Name(target).last.text
    let names = (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? []
    let left = names.filter { other in [".partial-", ".old-"].contains { other.hasPrefix(name + $0) } }
    return left.sorted().map { parent + "/" + $0 }
  }

  // MARK: Paths

  static func parent(_ path: String) -> String { FileSystem.parent(of: path) }

  /// Free bytes where a new path would stand.
  static func freeSpace(_ path: String) -> Int? {
    FileSystem.freeBytes(at: parent(path)).map(Int.init)
  }
}

/// What a folder holds that is to be replaced: a data set, or one split into `train` and `test`.
private struct Contents {
  /// Files and then folders that `pack` wrote.
  private var own: [String] = []
  private var folders: [String]
  private(set) var shards = 0
  /// Names of all else.
  private(set) var others: [String] = []

  init(_ path: String) throws(FileError) {
    folders = [path]
    guard isFolder(path) else {
      others = ["."]
      return
    }
    for name in try names(path) {
      if name == "train" || name == "test", isFolder(path + "/" + name) {
        folders.insert(path + "/" + name, at: 0)
        for inner in try names(path + "/" + name) { add(path, name + "/" + inner, Format.shardNumber(inner) != nil) }
      } else {
        add(path, name, Format.shardNumber(name) != nil)
      }
    }
  }

  private func names(_ path: String) throws(FileError) -> [String] {
    do { return try FileManager.default.contentsOfDirectory(atPath: path).sorted() } catch {
      throw FileError(path, "read", "its names cannot be listed")
    }
  }

  private mutating func add(_ path: String, _ name: String, _ isShard: Bool) {
    var status = stat()
    let isFile = lstat(path + "/" + name, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    if isFile, isShard || name == Packer.rejectedFile {
      own.append(path + "/" + name)
      shards += isShard ? 1 : 0
    } else {
      others.append(name)
    }
  }

  /// Removes what `pack` wrote; a folder with anything else in it stays.
  func remove() {
    for file in own { unlink(file) }
    for folder in folders { rmdir(folder) }
  }
}

/// Not through a link.
private func isFolder(_ path: String) -> Bool {
  var status = stat()
  return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
}
