import Foundation
import Shards
import Testing

private struct Lamp: Options, Equatable {
  static let title = "a lamp"
  static let required = ["colour"]
  var colour = ""
  var watts = 40
  var brightness = 0.1
  var switches: [Switch] = []
  var shade: Shade?
  var spare = Shade()
  var socket = Socket.screw
  var sockets: [Socket] = []

  func check() throws(RecipeError) {
    if watts < 1 { throw RecipeError("`watts` is \(watts); it must be at least 1") }
  }
}

private enum Socket: String, Codable, CaseIterable { case screw, bayonet }

private struct Shade: Options, Equatable {
  static let title = "a shade"
  var width = 20
}

private struct Switch: Options, Equatable {
  static let title = "a switch"
  var isOn = true
}

/// A lamp next to a key that is read elsewhere.
private struct Shelf: Decodable {
  var lamp: Lamp
  init(from decoder: any Swift.Decoder) throws { lamp = try decoder.options(Lamp.self, besides: ["place"]) }
}

@Suite struct OptionsTests {
  private func lamp(_ json: String) throws -> Lamp { try JSONDecoder().decode(Shelf.self, from: Data(json.utf8)).lamp }

  @Test func whatIsNotGivenHasItsDefault() throws {
    var expected = Lamp()
    expected.colour = "red"
    #expect(try lamp(#"{"colour": "red", "place": 3, "watts": null}"#) == expected)
    expected.watts = 60
    expected.brightness = 1.0 / 3
    expected.shade = Shade(width: 3)
    expected.switches = [Switch(isOn: false), Switch()]
    let given = #"{"colour": "red", "watts": 60, "brightness": 0.3333333333333333, "shade": {"width": 3}, "#
    #expect(try lamp(given + #""switches": [{"isOn": false}, {}], "spare": {}}"#) == expected)
  }

  /// An unknown word is refused, with all known words in the error.
  @Test(arguments: [
    (#""socket": "bayonnet""#, "socket"), (#""sockets": ["screw", "bayonnet"]"#, "sockets"),
  ]) func wordsAreNamed(option: String, key: String) throws {
    let error = #expect(throws: DecodingError.self) { try lamp("{\"colour\": \"red\", \(option)}") }
    guard case .dataCorrupted(let context) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(context.codingPath.first?.stringValue == key)
    let words = "it is `bayonnet`; did you mean `bayonet`? it can be `screw`, `bayonet`"
    #expect(context.debugDescription == words)
    #expect(try lamp(#"{"colour": "red", "socket": "bayonet", "sockets": ["screw"]}"#).socket == .bayonet)
  }

  /// Written options are complete, and read back unchanged.
  @Test func writtenOptionsReadBack() throws {
    var lamp = Lamp()
    lamp.shade = Shade(width: 7)
    lamp.brightness = 0.1 + 0.2
    let text = String(decoding: try JSONEncoder().encode(lamp), as: UTF8.self)
    #expect(try self.lamp(text) == lamp)
  }

  @Test(arguments: [
    (
      #"{"colour": "red", "wats": 1}"#,
      "a lamp has no `wats`; did you mean `watts`? It takes `place`, `colour`, `watts`"
    ),
    (#"{"wats": 1}"#, "did you mean `watts`?"),
    (#"{"watts": 1}"#, "`colour` is missing"),
    (#"{"colour": "red", "watts": 0}"#, "`watts` is 0; it must be at least 1"),
    (#"{"colour": "red", "watts": "many"}"#, "watts: expected a whole number"),
    (#"{"colour": "red", "shade": {"widht": 1}}"#, "shade: a shade has no `widht`; did you mean `width`?"),
    (#"{"colour": "red", "switches": [{}, {"on": 1}]}"#, "switches[1]: a switch has no `on`"),
  ])
  func mistakesAreNamed(_ json: String, _ words: String) {
    let error = #expect(throws: DecodingError.self) { try lamp(json) }
    let text = error.map { RecipeError($0).description } ?? "no error"
    #expect(text.contains(words), "\(text)")
  }
}
