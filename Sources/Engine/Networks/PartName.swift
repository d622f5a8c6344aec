/// A part of a network, named by the path that its parameters' names begin with: `encoder`, `encoder.layer4`, `head`,
/// or `head.0`, the first layer of the head.
package struct PartName: RawRepresentable, Hashable, Codable, Sendable {
  package static let encoder: PartName = "encoder"
  package static let head: PartName = "head"

  package let rawValue: String

  package init(rawValue: String) { self.rawValue = rawValue }

  /// The part that a parameter belongs to: the first component of its name.
  package init(of parameter: String) { rawValue = String(parameter.prefix { $0 != "." }) }

  /// Whether a parameter of this name belongs to the part.
  package func covers(_ parameter: String) -> Bool {
    parameter == rawValue || parameter.hasPrefix(rawValue + ".")
  }

  /// The name of a parameter as it is within the part: `conv1.weight` for `encoder.conv1.weight`.
  package func localName(_ parameter: String) -> String { String(parameter.dropFirst(rawValue.count + 1)) }

  /// Some layers of a head as parts of their own: `head.0`, `head.1`.
  package func layers(_ range: Range<Int>) -> [PartName] { range.map { PartName(rawValue: "\(rawValue).\($0)") } }
}

extension PartName: ExpressibleByStringLiteral, CustomStringConvertible {
  package init(stringLiteral path: String) { self.init(rawValue: path) }
  package var description: String { rawValue }
}
