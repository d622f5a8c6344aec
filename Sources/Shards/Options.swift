/// Options, as a recipe writes them. Each stands once: as a stored property with its default.
///
/// A conforming type leaves `Codable` to the compiler. `Decoder.options` fills in the defaults, refuses unknown keys
/// and calls `check`; options within options are read the same way.
package protocol Options: Codable {
  /// What these are options of, for messages, such as `a schedule`.
  static var title: String { get }
  /// Keys without a default; `init()` gives them any value.
  static var required: [String] { get }
  /// Every option at its default.
  init()
  /// Refuses values that cannot work, whatever the data are.
  func check() throws(RecipeError)
}

extension Options {
  package static var required: [String] { [] }
  package func check() throws(RecipeError) {}
}

/// Refuses a number of an option.
package func require<T: Comparable>(
  _ key: String, _ value: T, _ isAllowed: Bool, _ range: String
) throws(RecipeError) {
  if !isAllowed { throw RecipeError("`\(key)` is \(value); it must be \(range)") }
}

/// Refuses a number of an option, and whatever is not finite.
package func require(_ key: String, _ value: Double, _ isAllowed: Bool, _ range: String) throws(RecipeError) {
  if !isAllowed || !value.isFinite { throw RecipeError("`\(key)` is \(value); it must be \(range)") }
}

/// Refuses a number of an option that lies outside of a range.
package func require(_ key: String, _ value: Int, in range: ClosedRange<Int>) throws(RecipeError) {
  try require(key, value, range.contains(value), "\(range.lowerBound) to \(range.upperBound)")
}

extension Swift.Decoder {
  /// The options of a mapping, with defaults where it gives nothing.
  /// - Parameters:
  ///   - defaults: used where the mapping gives nothing.
  ///   - others: keys that somebody else reads.
  /// - Throws: `DecodingError` that names an unknown key and the nearest valid one, a missing key, or what `check`
  ///   refuses.
  package func options<T: Options>(_ defaults: T, besides others: [String] = []) throws -> T {
    let options = try self.options(defaults, of: T.title, required: T.required, besides: others)
    do { try options.check() } catch { throw invalid(error.description) }
    return options
  }

  /// The stored properties of any type, read as options.
  /// - Parameters:
  ///   - what: what these are options of, for messages.
  ///   - required: keys without a default.
  ///   - others: keys that somebody else reads.
  ///   - ignored: keys that nobody reads any more.
  package func options<T: Decodable>(
    _ defaults: T, of what: String, required: [String] = [], besides others: [String] = [],
    ignoring ignored: [String] = []
  ) throws -> T {
    let values = DefaultValues(of: defaults)
    let given = try container(keyedBy: AnyKey.self)
    let known = others + values.names
    for key in given.allKeys where !(known + ignored).contains(key.stringValue) {
      throw unknown(key.stringValue, known: known, of: what)
    }
    for key in required where !given.contains(AnyKey(key)) {
      throw DecodingError.keyNotFound(AnyKey(key), .init(codingPath: codingPath, debugDescription: "it has no default"))
    }
    return try T(from: OptionsDecoder(given: self, defaults: values))
  }

  package func options<T: Options>(_ type: T.Type, besides others: [String] = []) throws -> T {
    try options(T(), besides: others)
  }
}

extension KeyedDecodingContainerProtocol {
  /// The value at a key; options are read by `Decoder.options`, alone or in a list.
  package func value<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T {
    guard contains(key) else {
      throw DecodingError.keyNotFound(key, .init(codingPath: codingPath, debugDescription: "it has no default"))
    }
    if let options = type as? any Options.Type {
      return try superDecoder(forKey: key).options(options) as! T
    }
    if let list = type as? any ListOfOptions.Type {
      return try list.init(options: superDecoder(forKey: key)) as! T
    }
    if let words = words(of: type) { try superDecoder(forKey: key).checkWord(of: words) }
    if let list = type as? any ListOfWords.Type { try superDecoder(forKey: key).checkWords(of: list.words) }
    return try decode(type, forKey: key)
  }
}

/// The words that a type can be read from; nil where it is not an enumeration of words.
private func words<T>(of type: T.Type) -> [String]? {
  func all<Word: CaseIterable & RawRepresentable>(_ type: Word.Type) -> [String]? {
    let words = type.allCases.compactMap { $0.rawValue as? String }
    return words.isEmpty ? nil : words
  }
  guard let type = type as? any (CaseIterable & RawRepresentable).Type else { return nil }
  return all(type)
}

private protocol ListOfWords {
  static var words: [String] { get }
}

extension Array: ListOfWords where Element: CaseIterable & RawRepresentable, Element.RawValue == String {
  fileprivate static var words: [String] { Element.allCases.map(\.rawValue) }
}

extension Swift.Decoder {
  /// Refuses a word that is none of those known, by the nearest one.
  fileprivate func checkWord(of known: [String]) throws {
    guard let word = try? singleValueContainer().decode(String.self), !known.contains(word) else { return }
    let words = known.map { "`\($0)`" }.joined(separator: ", ")
    throw invalid("it is `\(word)`\(suggestion(for: word, in: known)) it can be \(words)")
  }

  fileprivate func checkWords(of known: [String]) throws {
    guard var list = try? unkeyedContainer() else { return }
    while !list.isAtEnd { try list.superDecoder().checkWord(of: known) }
  }
}

private protocol ListOfOptions {
  init(options decoder: any Swift.Decoder) throws
}

extension Array: ListOfOptions where Element: Options {
  fileprivate init(options decoder: any Swift.Decoder) throws {
    var list = try decoder.unkeyedContainer()
    self = []
    while !list.isAtEnd { append(try list.superDecoder().options(Element.self)) }
  }
}

/// The stored properties of a value, by name.
private struct DefaultValues {
  /// In the order of declaration.
  let names: [String]
  private let values: [String: Any]

  init(of value: Any) {
    let properties = Mirror(reflecting: value).children.map { ($0.label!, $0.value) }
    names = properties.map(\.0)
    values = Dictionary(uniqueKeysWithValues: properties)
  }

  func value<T>(_ type: T.Type, _ key: any CodingKey) -> T? { values[key.stringValue] as? T }

  /// Whether the default is nil. The compiler's code asks before it reads an optional number.
  func isNil(_ key: any CodingKey) -> Bool {
    guard let value = values[key.stringValue] else { return true }
    let mirror = Mirror(reflecting: value)
    return mirror.displayStyle == .optional && mirror.children.isEmpty
  }
}

/// What a type's synthesised `init(from:)` reads from: what is given, or else the default.
private struct OptionsDecoder: Swift.Decoder {
  let given: any Swift.Decoder
  let defaults: DefaultValues
  var codingPath: [any CodingKey] { given.codingPath }
  var userInfo: [CodingUserInfoKey: Any] { given.userInfo }

  func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
    KeyedDecodingContainer(OptionsContainer(given: try given.container(keyedBy: type), defaults: defaults))
  }

  func unkeyedContainer() throws -> any UnkeyedDecodingContainer { try given.unkeyedContainer() }
  func singleValueContainer() throws -> any SingleValueDecodingContainer { try given.singleValueContainer() }
}

private struct OptionsContainer<Key: CodingKey>: KeyedDecodingContainerProtocol {
  let given: KeyedDecodingContainer<Key>
  let defaults: DefaultValues
  var codingPath: [any CodingKey] { given.codingPath }
  var allKeys: [Key] { given.allKeys }

  func contains(_ key: Key) -> Bool { given.contains(key) || defaults.names.contains(key.stringValue) }

  func decodeNil(forKey key: Key) throws -> Bool {
    if given.contains(key) { return try given.decodeNil(forKey: key) }
    return defaults.isNil(key)
  }

  func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T {
    if let value = try decodeIfPresent(type, forKey: key) { return value }
    throw DecodingError.keyNotFound(key, .init(codingPath: codingPath, debugDescription: "it has no default"))
  }

  func decodeIfPresent<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T? {
    if given.contains(key), try !given.decodeNil(forKey: key) { return try given.value(type, forKey: key) }
    return defaults.value(type, key)
  }

  func nestedContainer<Nested: CodingKey>(
    keyedBy type: Nested.Type, forKey key: Key
  ) throws -> KeyedDecodingContainer<Nested> {
    try given.nestedContainer(keyedBy: type, forKey: key)
  }

  func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
    try given.nestedUnkeyedContainer(forKey: key)
  }

  func superDecoder() throws -> any Swift.Decoder { try given.superDecoder() }
  func superDecoder(forKey key: Key) throws -> any Swift.Decoder { try given.superDecoder(forKey: key) }
}
