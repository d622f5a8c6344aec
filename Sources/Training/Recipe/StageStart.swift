import Engine
import Shards

/// Where a stage takes its first weights from: `{from: previous, carry: [encoder]}`. The other parts are drawn anew.
package struct StageStart: Codable, Sendable, Equatable {
  package enum Source: Sendable, Equatable {
    /// All weights are drawn by the seed.
    case nothing
    /// The stage before this one.
    case previous
    /// The end of an earlier stage, by its name.
    case stage(String)
    /// The newest checkpoint of another run, by its folder.
    case run(String)
    /// An encoder in safetensors with torchvision's names.
    case file(String)
  }

  package var from: Source
  /// What is taken over, by name: parts of the network, and networks or queues that the method has besides, such as
  /// MoCo's `key`.
  package var carry: [String]

  package var parts: [PartName] { carry.map(PartName.init(rawValue:)) }

  package init(from: Source, carry: [String] = ["encoder"]) {
    self.from = from
    self.carry = carry
  }

  /// Whether an array of the method's further state is taken over, such as `key/parameters/encoder.conv1.weight`.
  func carries(state name: String) -> Bool { parts.contains { $0.coversState(name) } }

  enum CodingKeys: String, CodingKey, CaseIterable { case from, carry }

  package init(from decoder: any Decoder) throws {
    let values = try decoder.strict(CodingKeys.self, of: "start")
    from = try values.value(.from, default: .previous)
    carry = try values.value(.carry, default: ["encoder"])
    guard !carry.isEmpty, Set(carry).count == carry.count else {
      throw decoder.invalid("`carry` is \(carry); it names the parts that are taken over, each once, such as [encoder]")
    }
  }

  package func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(from, forKey: .from)
    try values.encode(carry, forKey: .carry)
  }
}

extension StageStart.Source: Codable {
  package init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let source = Self(text) else {
      throw decoder.invalid(
        "it is `\(text)`; it can be `nothing`, `previous`, `stage NAME`, `run FOLDER` or `file PATH`")
    }
    self = source
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}

extension StageStart.Source: CustomStringConvertible {
  /// Reads `description`'s form.
  package init?(_ text: String) {
    let words = text.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    let name = words.count == 2 ? words[1] : ""
    switch (words[0], name.isEmpty) {
    case ("nothing", true): self = .nothing
    case ("previous", true): self = .previous
    case ("stage", false): self = .stage(name)
    case ("run", false): self = .run(name)
    case ("file", false): self = .file(name)
    default: return nil
    }
  }

  package var description: String {
    switch self {
    case .nothing: "nothing"
    case .previous: "previous"
    case .stage(let name): "stage \(name)"
    case .run(let folder): "run \(folder)"
    case .file(let path): "file \(path)"
    }
  }
}

extension StageStart: CustomStringConvertible {
  package var description: String { from == .nothing ? "nothing" : "\(from) (\(carry.joined(separator: ", ")))" }
}

extension PartName {
  /// Whether an array of a method's further state is this part, or belongs to it.
  func coversState(_ name: String) -> Bool { name == rawValue || name.hasPrefix(rawValue + "/") }
}
