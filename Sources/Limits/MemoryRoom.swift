import Foundation

/// Memory that can still be taken, and what bounds it.
package struct MemoryRoom: Equatable {
  package let bytes: Int64
  /// What the bound is, as the end of "but 12 MiB are free": empty for the machine's own memory.
  package let bound: String
  /// What to do where that is too little.
  package let advice: String

  package init(bytes: Int64, bound: String, advice: String) {
    self.bytes = bytes
    self.bound = bound
    self.advice = advice
  }

  /// For all ranks of this node together: the least that the machine and the control groups leave. Nil where unknown.
  package static func ofNode(root: String = "") -> MemoryRoom? {
    let groups = ControlGroup.all(root: root).map { group in
      MemoryRoom(
        bytes: group.free, bound: " of the \(group.limit >> 20) MiB that \(group.file.dropFirst(root.count)) allows",
        advice: "ask the batch system for more memory (--mem), ")
    }
    let machine = machineFree(root: root).map { MemoryRoom(bytes: $0, bound: "", advice: "") }
    return ([machine].compactMap { $0 } + groups).min { $0.bytes < $1.bytes }
  }

  /// For this process alone: what `ulimit` leaves of its address space. Nil where nothing is limited.
  package static func ofProcess(_ limits: ProcessLimits = .current, root: String = "") -> MemoryRoom? {
    let status = (try? String(contentsOfFile: root + "/proc/self/status", encoding: .utf8)) ?? ""
    func room(_ limit: Int64?, _ key: String, _ option: String) -> MemoryRoom? {
      limit.map {
        MemoryRoom(
          bytes: max(0, $0 - (kilobytes(key, in: status) ?? 0) << 10),
          bound: " of the \($0 >> 20) MiB of ulimit -\(option)",
          advice: "raise that limit (ulimit -\(option) unlimited), ")
      }
    }
    return [room(limits.addressSpace, "VmSize:", "v"), room(limits.data, "VmData:", "d")].compactMap { $0 }
      .min { $0.bytes < $1.bytes }
  }

  private static func machineFree(root: String) -> Int64? {
    guard let text = try? String(contentsOfFile: root + "/proc/meminfo", encoding: .utf8) else { return nil }
    return kilobytes("MemAvailable:", in: text).map { $0 << 10 }
  }

  /// The number of a line such as `MemAvailable:   12345 kB`.
  private static func kilobytes(_ key: String, in text: String) -> Int64? {
    guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix(key) }) else { return nil }
    return line.dropFirst(key.count).split(whereSeparator: \.isWhitespace).first.flatMap { Int64($0) }
  }
}
