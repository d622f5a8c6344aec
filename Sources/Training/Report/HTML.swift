/// Text made safe for an HTML page.
package enum HTML {
  /// For text and for attributes in double or single quotes. Control characters, which HTML has no place for, are shown
  /// as the replacement character.
  package static func escape(_ text: some StringProtocol) -> String {
    var result = ""
    result.reserveCapacity(text.utf8.count)
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "'": result += "&#39;"
      case "\n", "\t": result.unicodeScalars.append(scalar)
      case _ where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value): result += "\u{FFFD}"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// An element around ready HTML; attributes are escaped.
  static func element(_ name: String, _ attributes: KeyValuePairs<String, String> = [:], _ inner: String) -> String {
    "<\(name)\(attributes.map { " \($0.key)=\"\(escape($0.value))\"" }.joined())>\(inner)</\(name)>"
  }
}
