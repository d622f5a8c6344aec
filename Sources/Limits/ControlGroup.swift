import Foundation

/// The memory that control groups leave to this process: batch systems and containers set limits there, and end a job
/// that goes beyond them.
package struct ControlGroup: Equatable {
  /// The file that holds the limit.
  package let file: String
  /// Bytes that all processes of the group may use.
  package let limit: Int64
  /// Bytes that they use and that cannot be taken back at once.
  package let used: Int64
  package var free: Int64 { max(0, limit - used) }

  /// Every group with a limit that this process is in, from the innermost to the root: a group's limit holds for all
  /// groups below it. Both versions of the interface are read.
  /// - Parameter root: the folder that holds `proc` and `sys`; tests give one of their own.
  package static func all(root: String = "") -> [ControlGroup] {
    guard let text = try? String(contentsOfFile: root + "/proc/self/cgroup", encoding: .utf8) else { return [] }
    return text.split(separator: "\n").flatMap { line -> [ControlGroup] in
      // hierarchy:controllers:path, where version 2 has hierarchy 0 and no controllers
      let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3 else { return [] }
      if fields[0] == "0" && fields[1].isEmpty {
        return ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].flatMap { groups(root + $0, String(fields[2]), .second) }
      }
      guard fields[1].split(separator: ",").contains("memory") else { return [] }
      return groups(root + "/sys/fs/cgroup/memory", String(fields[2]), .first)
    }
  }

  /// Names of the files of a version.
  private struct Version {
    let limit: String
    let usage: String
    /// The line of `memory.stat` with file pages that were read or written once: the system takes them back when
    /// memory is short.
    let cache: String
    static let first = Version(
      limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes", cache: "total_inactive_file")
    static let second = Version(limit: "memory.max", usage: "memory.current", cache: "inactive_file")
  }

  /// A container may see its own group as the root, while `/proc` names it as the host does: folders that are not there
  /// are passed over.
  private static func groups(_ mount: String, _ path: String, _ version: Version) -> [ControlGroup] {
    var names = path.split(separator: "/").filter { $0 != ".." }
    var found: [ControlGroup] = []
    while true {
      let folder = ([mount] + names.map(String.init)).joined(separator: "/")
      if let group = group(folder, version) { found.append(group) }
      if names.isEmpty { return found }
      names.removeLast()
    }
  }

  /// Nil where there is no limit: the first version writes one of some 2⁶³ then, the second "max".
  private static func group(_ folder: String, _ version: Version) -> ControlGroup? {
    let file = folder + "/" + version.limit
    guard let limit = number(file), limit < 1 << 60, let usage = number(folder + "/" + version.usage) else {
      return nil
    }
    let statistics = (try? String(contentsOfFile: folder + "/memory.stat", encoding: .utf8)) ?? ""
    let line = statistics.split(separator: "\n").first { $0.hasPrefix(version.cache + " ") }
    let cache = line.flatMap { Int64($0.dropFirst(version.cache.count + 1)) } ?? 0
    return ControlGroup(file: file, limit: limit, used: max(0, usage - cache))
  }

  private static func number(_ file: String) -> Int64? {
    guard let text = try? String(contentsOfFile: file, encoding: .utf8) else { return nil }
    return Int64(text.trimmingCharacters(in: .whitespacesAndNewlines))
  }
}
