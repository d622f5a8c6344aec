import Foundation

/// The name of a file or a class: bytes, as file systems and lists hold them. Two names are equal where their bytes
/// are. (Swift's strings cannot hold what is not UTF-8, and call a composed and a decomposed é equal.)
package struct Name: Hashable, Comparable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
  package let bytes: [UInt8]

  package init(_ bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }
  package init(_ text: String) { bytes = Array(text.utf8) }
  package init(stringLiteral text: String) { self.init(text) }

  package static func < (a: Name, b: Name) -> Bool { a.bytes.lexicographicallyPrecedes(b.bytes) }

  /// The name as shards store it and people see it: control characters as `\x0A`, and, where it is not UTF-8, all bytes
  /// above ASCII as `\xE9`.
  package var text: String {
    func isControl(_ byte: UInt8) -> Bool { byte < 0x20 || byte == 0x7F }
    let valid = String(validating: bytes, as: UTF8.self)
    if let valid, !bytes.contains(where: isControl) { return valid }
    var escaped: [UInt8] = []
    for byte in bytes {
      if isControl(byte) || valid == nil && byte >= 0x80 {
        escaped += String(format: "\\x%02X", UInt32(byte)).utf8
      } else {
        escaped.append(byte)
      }
    }
    return String(decoding: escaped, as: UTF8.self)
  }

  package var description: String { text }

  /// What stands behind the last slash.
  var last: Name { Name(bytes[(bytes.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0)...]) }

  /// What stands before the first slash; nil without one.
  var first: Name? { bytes.firstIndex(of: UInt8(ascii: "/")).map { Name(bytes[..<$0]) } }

  /// A path below this folder; an absolute path stays as it is, and nothing is put before a path in the empty folder.
  func appending(_ path: Name) -> Name {
    if bytes.isEmpty || path.bytes.first == UInt8(ascii: "/") { return path }
    return Name(bytes + [UInt8(ascii: "/")] + path.bytes)
  }

  /// Lends the name to the system's calls.
  func withPath<R>(_ body: (UnsafePointer<CChar>) -> R) -> R {
    let characters = bytes.map { CChar(bitPattern: $0) } + [0]
    return characters.withUnsafeBufferPointer { body($0.baseAddress!) }
  }
}
