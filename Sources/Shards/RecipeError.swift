/// A recipe that cannot be run: where in it, what is wrong, what would be right.
package struct RecipeError: Error, CustomStringConvertible, Sendable {
  package let description: String

  package init(_ description: String) { self.description = description }

  /// What a decoder found, in words: the path inside the recipe, then the reason.
  package init(_ error: DecodingError) {
    let context: DecodingError.Context
    var text: String
    switch error {
    case .typeMismatch(let type, let found):
      context = found
      text = "expected \(name(of: type)), \(found.debugDescription)"
    case .valueNotFound(let type, let found):
      context = found
      text = "expected \(name(of: type)), found nothing"
    case .keyNotFound(let key, let found):
      context = found
      text = "`\(key.stringValue)` is missing"
    case .dataCorrupted(let found):
      context = found
      text = found.debugDescription
      if let inner = found.underlyingError { text += "; \(inner)" }
    @unknown default:
      description = "\(error)"
      return
    }
    let path = context.codingPath.reduce(into: "") { path, key in
      path += key.intValue.map { "[\($0)]" } ?? (path.isEmpty ? key.stringValue : "." + key.stringValue)
    }
    description = path.isEmpty ? text : "\(path): \(text)"
  }
}

private func name(of type: Any.Type) -> String {
  switch type {
  case is Int.Type, is UInt64.Type: "a whole number"
  case is Double.Type, is Float.Type: "a number"
  case is String.Type: "a text"
  case is Bool.Type: "true or false"
  case is [String: Any].Type: "a mapping"
  case is [Any].Type: "a list"
  default: "\(type)"
  }
}
