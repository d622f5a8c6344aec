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
    let near = suggestion(for: name, in: known)
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
    guard contains(key), try !decodeNil(forKey: key) else { return fallback }
    return try value(T.self, forKey: key)
  }
}
