/// A key of any name: what a mapping really holds.
package struct AnyKey: CodingKey {
  package let stringValue: String
  package var intValue: Int? { nil }
  package init(_ name: String) { stringValue = name }
  package init?(stringValue: String) { self.init(stringValue) }
  package init?(intValue: Int) { self.init(String(intValue)) }
}

extension Swift.Decoder {
  /// The container of a mapping whose keys are all known.
  /// - Parameters:
  ///   - what: what the mapping describes, for the message.
  ///   - others: keys that somebody else reads.
  /// - Throws: `DecodingError.dataCorrupted` naming the unknown key and the nearest valid one.
  package func strict<K: CodingKey & CaseIterable>(
    _ keys: K.Type, of what: String, besides others: [String] = []
  ) throws -> KeyedDecodingContainer<K> {
    let known = others + K.allCases.map(\.stringValue)
    for key in try container(keyedBy: AnyKey.self).allKeys where !known.contains(key.stringValue) {
      throw unknown(key.stringValue, known: known, of: what)
    }
    return try container(keyedBy: keys)
  }

  /// The error for a name that is none of the known ones.
  package func unknown(_ name: String, known: [String], of what: String) -> DecodingError {
    let near = nearest(to: name, in: known).map { "; did you mean `\($0)`?" } ?? ";"
    return invalid("\(what) has no `\(name)`\(near) It takes \(known.map { "`\($0)`" }.joined(separator: ", "))")
  }

  /// The error for a value that is well-formed but not allowed here.
  package func invalid(_ message: String) -> DecodingError {
    .dataCorrupted(DecodingError.Context(codingPath: codingPath, debugDescription: message))
  }
}

extension KeyedDecodingContainer {
  /// The value at a key, or a default where the key is absent.
  package func value<T: Decodable>(_ key: Key, default fallback: T) throws -> T {
    try decodeIfPresent(T.self, forKey: key) ?? fallback
  }
}

/// The known name that is fewest edits (insert, remove, replace, swap of neighbours) away, if that is at most about a
/// third of its letters.
package func nearest(to name: String, in known: [String]) -> String? {
  let ranked = known.map { ($0, distance(Array(name.lowercased()), Array($0.lowercased()))) }
  guard let best = ranked.min(by: { $0.1 < $1.1 }), best.1 <= max(2, best.0.count / 3) else { return nil }
  return best.0
}

/// Optimal string alignment distance.
private func distance(_ a: [Character], _ b: [Character]) -> Int {
  var rows = [[Int]](repeating: [Int](repeating: 0, count: b.count + 1), count: a.count + 1)
  for i in 0...a.count { rows[i][0] = i }
  for j in 0...b.count { rows[0][j] = j }
  for i in 0..<a.count {
    for j in 0..<b.count {
      let replace = rows[i][j] + (a[i] == b[j] ? 0 : 1)
      rows[i + 1][j + 1] = min(replace, rows[i][j + 1] + 1, rows[i + 1][j] + 1)
      if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
        rows[i + 1][j + 1] = min(rows[i + 1][j + 1], rows[i - 1][j - 1] + 1)
      }
    }
  }
  return rows[a.count][b.count]
}

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
