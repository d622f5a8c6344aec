import Engine
import Shards

/// Which parameters train, and how fast: `{part: encoder, trains: false}`. Of several rules that cover a parameter, the
/// last one that says something holds.
package struct ParameterRule: Options, Sendable, Equatable {
  package static let title = "a rule of parameters"

  /// A part of the network, such as `encoder`, `encoder.layer4` or `head.0`; nil for the whole.
  package var part: String?
  /// Kinds of parameters; nil for all, the running statistics among them.
  package var kinds: [ParameterKind]?
  /// Whether training changes them. Running statistics that do not train are what every normalisation runs by.
  package var trains: Bool?
  /// Factor on the learning rate.
  package var rate: Double?
  /// Factor on the weight decay.
  package var decay: Double?
  /// Whether LARS's trust ratio scales the rate (SimCLR: not the classifier's).
  package var adapts: Bool?

  package init() {}

  package func check() throws(RecipeError) {
    for (key, value) in [("rate", rate), ("decay", decay)] {
      if let value { try require(key, value, value >= 0, "0 or more") }
    }
    guard trains != nil || rate != nil || decay != nil || adapts != nil else {
      throw RecipeError("a rule of parameters says nothing: give it `trains`, `rate`, `decay` or `adapts`")
    }
    if let kinds, kinds.isEmpty { throw RecipeError("`kinds` is empty: list some, or leave it out for all") }
  }

  /// As the engine takes it.
  package var rule: Rule {
    Rule(
      part.map { PartName(rawValue: $0) }, kinds: kinds.map { Set($0) }, trains: trains, rate: rate.map { Float($0) },
      decay: decay.map { Float($0) }, adapts: adapts)
  }

  /// Refuses rules that are for no parameter of a method's networks, and rules by which nothing trains.
  package static func check(_ rules: [ParameterRule], _ networks: [Network]) throws(RecipeError) {
    for (index, rule) in rules.enumerated() where !networks.contains(where: { $0.has(rule.rule) }) {
      let names = networks.flatMap { $0.parameters.entries + $0.statistics.entries }.map(\.name)
      guard let part = rule.rule.part else {
        throw RecipeError("parameters[\(index)]: this stage's network has no parameters of its kinds")
      }
      if names.contains(where: part.covers) {
        throw RecipeError("parameters[\(index)]: part `\(part)` has no parameters of its kinds")
      }
      throw RecipeError("parameters[\(index)]: this stage's network has no part `\(part)`\(part.advice(among: names))")
    }
    guard networks.contains(where: { $0.parameters.entries.contains(where: \.trains) }) else {
      throw RecipeError("parameters: by these rules nothing trains; let some part train")
    }
  }
}

extension PartName {
  /// Which part of a network was meant, in words, by the names of its parameters.
  func advice(among parameters: some Collection<String>) -> String {
    let parts = Set(
      parameters.flatMap { name in
        let path = name.split(separator: ".")
        return (1...path.count).map { path[..<$0].joined(separator: ".") }
      })
    let near = suggestion(for: rawValue, in: parts.sorted())
    let largest = parts.filter { !$0.contains(".") }.sorted().joined(separator: ", ")
    return "\(near) its parts are \(largest), and what is within them, such as encoder.layer4"
  }
}
