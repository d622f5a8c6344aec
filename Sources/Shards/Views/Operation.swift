/// A row of a view's list of operations: a mapping with one key, the operation's name.
package struct Operation: Codable, Equatable, Sendable {
  /// Every operation there is.
  package static let all: [any ViewOperation.Type] = [
    Crop.self, Centre.self, Tiles.self, Flip.self, Rotate.self, Colour.self, Grey.self, Blur.self, Solarise.self,
    Channels.self, Normalise.self,
  ]

  package let body: any ViewOperation
  package var name: String { type(of: body).name }

  package init(_ body: any ViewOperation) { self.body = body }

  package init(from decoder: any Swift.Decoder) throws {
    let container = try decoder.container(keyedBy: AnyKey.self)
    guard let key = container.allKeys.first, container.allKeys.count == 1 else {
      throw decoder.invalid(
        "an operation is one key and its values, such as `{flip: 0.5}`; found \(container.allKeys.count) keys")
    }
    guard let type = Operation.all.first(where: { $0.name == key.stringValue }) else {
      throw decoder.unknown(key.stringValue, known: Operation.all.map { $0.name }, of: "the list of operations")
    }
    func decode<T: ViewOperation>(_ type: T.Type) throws -> any ViewOperation {
      try container.value(type, forKey: key)
    }
    body = try decode(type)
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: AnyKey.self)
    func encode<T: ViewOperation>(_ body: T) throws { try container.encode(body, forKey: AnyKey(T.name)) }
    try encode(body)
  }

  package static func == (a: Operation, b: Operation) -> Bool {
    func equal<T: ViewOperation>(_ x: T) -> Bool { x == b.body as? T }
    return equal(a.body)
  }
}
