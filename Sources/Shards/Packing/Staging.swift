import Files
import Foundation

/// A folder that is written beside its final place and renamed at the end, so that what bears the final name is whole.
/// Without `commit` nothing stays.
package final class Staging {
  /// Where it will stand.
  package let target: String
  /// Where it is written: `TARGET.partial-PID`.
  package let path: String
  private let replaces: Bool
  private var committed = false

  /// - Parameter force: an existing data set at `target` is replaced at the end; anything else there is never touched.
  package init(_ target: String, force: Bool) throws(ShardError) {
    var target = target
    while target.count > 1, target.hasSuffix("/") { target.removeLast() }
    self.target = target
    path = "\(target).partial-\(getpid())"
    replaces = try Self.check(target, force: force)
    // Folders above the target are made; they stay where the rest fails.
    let parent = (target as NSString).deletingLastPathComponent
    if !parent.isEmpty { try? FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true) }
    if mkdir(path, 0o777) != 0 { throw ShardError.system(path, "create") }
  }

  /// Whether something stands at a target; throws where it must not be replaced. For finding out before long work.
  @discardableResult
  package static func check(_ target: String, force: Bool) throws(ShardError) -> Bool {
    var status = stat()
    guard lstat(target, &status) == 0 else { return false }
    guard force else {
      throw ShardError(target, "create", "it already exists; choose another name, or --force to replace it")
    }
    guard isDataSet(target) else {
      throw ShardError(target, "replace", "it is no data set of apus, so --force leaves it alone; remove it yourself")
    }
    return true
  }

  deinit { if !committed { try? FileManager.default.removeItem(atPath: path) } }

  /// Puts the folder in its place.
  package func commit() throws(ShardError) {
    let old = "\(target).old-\(getpid())"
    if replaces, rename(target, old) != 0 { throw ShardError.system(target, "replace") }
    if rename(path, target) != 0 {
      let code = errno
      if replaces { rename(old, target) }
      throw ShardError.system(target, "create", code)
    }
    committed = true
    // Some file systems refuse to flush folders; what is in them is on disk.
    try? FileSystem.flush(target)
    try? FileSystem.flush(Self.parent(target))
    if replaces { try? FileManager.default.removeItem(atPath: old) }
  }

  /// Partial folders that killed processes left beside the target.
  package var leftovers: [String] {
    let parent = Self.parent(target)
    let name = target.split(separator: "/").last.map(String.init) ?? target
    let names = (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? []
    return names.filter { $0.hasPrefix(name + ".partial-") && !$0.hasSuffix("-\(getpid())") }.map { parent + "/" + $0 }
  }

  static func parent(_ path: String) -> String {
    FileSystem.parent(of: path)
  }

  private static func isDataSet(_ path: String) -> Bool {
    ["", "/train", "/test"].contains { access(path + $0 + "/" + Format.shardName(0), F_OK) == 0 }
  }

  /// Free bytes where a new path would stand.
  static func freeSpace(_ path: String) -> Int? {
    FileSystem.freeBytes(at: parent(path)).map(Int.init)
  }
}
