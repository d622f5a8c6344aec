import Foundation
import Shards
import Yams

/// Everything that the numbers of a run depend on, besides its data: a seed and a list of stages.
///
/// A recipe file is YAML. A stage's fields stand at its top level; an optional list `stages` overrides them for each
/// stage in turn. `--set a.b=c` overrides a field at the top level.
package struct Recipe: Sendable {
  package var name: String
  package var seed: UInt64
  package var stages: [Stage]

  /// - Parameters:
  ///   - source: a file's path or a built-in recipe's name.
  ///   - overrides: `path=value` pairs; the value is YAML.
  /// - Throws: `RecipeError` that says where in the recipe, what is wrong and what would be right.
  package init(_ source: String, overrides: [String] = []) throws {
    try self.init(yaml: Recipe.text(of: source), from: source, overrides: overrides)
  }

  package init(yaml: String, from source: String, overrides: [String] = []) throws {
    do {
      guard var root = try Yams.compose(yaml: yaml), root.mapping != nil else {
        throw RecipeError("it is no YAML mapping")
      }
      for override in overrides { try root.apply(override) }
      try root.refuseOldNumbers(at: "")
      try self.init(root, name: source)
    } catch let error as DecodingError {
      throw RecipeError("recipe \(source): \(RecipeError(error))")
    } catch let error as YamlError {
      throw RecipeError("recipe \(source) is no valid YAML: \(error)")
    } catch let error as RecipeError {
      throw RecipeError(error.description.hasPrefix("recipe ") ? error.description : "recipe \(source): \(error)")
    }
  }

  private init(_ root: Node, name source: String) throws {
    var base = root.mapping!
    name = (source as NSString).lastPathComponent.replacing(".yaml", with: "")
    seed = 1
    if let node = base["seed"] {
      guard let value = node.scalar.flatMap({ UInt64($0.string) }) else {
        throw RecipeError("`seed` must be a whole number of at least 0")
      }
      seed = value
      base["seed"] = nil
    }
    var overlays = [Node.Mapping([])]
    if let list = base["stages"] {
      guard let sequence = list.sequence, !sequence.isEmpty else {
        throw RecipeError("`stages` must be a list of mappings")
      }
      overlays = try sequence.map {
        guard let mapping = $0.mapping else { throw RecipeError("`stages` must be a list of mappings") }
        return mapping
      }
      base["stages"] = nil
    }
    stages = try overlays.map { overlay in
      let merged = Node.mapping(base).merged(with: .mapping(overlay))
      let stage = try Recipe.stage(merged)
      try stage.check()
      return stage
    }
    // There is no stage before the first.
    if stages[0].start.from == .previous { stages[0].start.from = .nothing }
  }

  /// Says of a value of the wrong type what it is; Yams only says what kind of node.
  private static func stage(_ node: Node) throws -> Stage {
    do { return try YAMLDecoder().decode(Stage.self, from: node) } catch DecodingError.typeMismatch(
      let type, let context)
    {
      let found = context.codingPath.reduce(Optional(node)) { node, key in
        guard let index = key.intValue else { return node?.mapping?[key.stringValue] }
        return node?.sequence.flatMap { $0.indices.contains(index) ? $0[index] : nil }
      }
      let words = found.map {
        $0.scalar.map { "found `\($0.string)`" } ?? ($0.mapping == nil ? "found a list" : "found a mapping")
      }
      throw DecodingError.typeMismatch(
        type, .init(codingPath: context.codingPath, debugDescription: words ?? context.debugDescription))
    }
  }

  /// The resolved recipe: every field, defaults filled in; reading it gives the same recipe, to the bit.
  package var yaml: String {
    get throws {
      let stages = try stages.map { try Recipe.node(of: $0) }
      var root = Node.Mapping([(Node("seed"), Node("\(seed)"))])
      if stages.count == 1, let fields = stages[0].mapping {
        for (key, value) in fields { root[key] = value }
      } else {
        root[Node("stages")] = .sequence(Node.Sequence(stages))
      }
      return try Yams.serialize(node: .mapping(root), width: -1)
    }
  }

  /// Yams keeps the order of the fields, but writes numbers with 15 digits; JSON's are exact.
  private static func node(of stage: Stage) throws -> Node {
    let fields = try Yams.compose(yaml: YAMLEncoder().encode(stage)) ?? Node("")
    return fields.exact(try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(stage)), isTop: true)
  }

  /// One of its stages alone.
  func alone(_ stage: Int) -> Recipe {
    var recipe = self
    recipe.stages = [stages[stage]]
    // Alone it has no stage before it.
    if stages[stage].start.from == .previous, stage > 0 {
      recipe.stages[0].start.from = .stage(stages[stage - 1].name)
    }
    return recipe
  }

  /// The text of a file, a built-in recipe, or what a run was made by.
  package static func text(of source: String) throws -> String {
    if let recipe = BuiltInRecipes[source] { return recipe.text }
    let files = FileManager.default
    guard let data = files.contents(atPath: source + "/recipe.yaml") ?? files.contents(atPath: source) else {
      let names = BuiltInRecipes.names
      let near = suggestion(for: source, in: names)
      throw RecipeError(
        "there is no recipe file and no built-in recipe `\(source)`\(near) built in are "
          + names.joined(separator: ", ")
      )
    }
    guard data.count < 1 << 20 else { throw RecipeError("\(source) has \(data.count) bytes, which is no recipe") }
    return String(decoding: data, as: UTF8.self)
  }
}

extension Node {
  /// This node with every number as JSON has it, and everything below the top in one line.
  fileprivate func exact(_ json: JSONValue, isTop: Bool = false) -> Node {
    switch self {
    case .mapping(let mapping):
      let pairs = mapping.map { key, value in (key, value.exact(json.object?[key.string ?? ""] ?? .null)) }
      return .mapping(Mapping(pairs, .implicit, isTop ? .block : .flow))
    case .sequence(let sequence):
      let isLong = sequence.contains { $0.mapping != nil }
      return .sequence(
        Sequence(zip(sequence, json.list ?? []).map { $0.exact($1) }, .implicit, isLong && isTop ? .block : .flow))
    default: return json.number == nil ? self : Node(json.json)
    }
  }

  /// This mapping with another's values in place of its own, key by key through nested mappings.
  fileprivate func merged(with other: Node) -> Node {
    guard case .mapping(var mine) = self, case .mapping(let theirs) = other else { return other }
    // Another algorithm's options mean nothing to the one that replaces it.
    if let name = theirs["name"], let own = mine["name"], name != own, mine["optimizer"] == nil { return other }
    for (key, value) in theirs { mine[key] = mine[key].map { $0.merged(with: value) } ?? value }
    return .mapping(mine)
  }

  /// Refuses plain numbers that YAML 1.1 reads as other ones than they look like, and forms that other programs do not
  /// take: `1:20` is 80, `010` is 8, `0x10` and `1_6` are 16.
  fileprivate func refuseOldNumbers(at path: String) throws {
    switch self {
    case .mapping(let mapping):
      for (key, value) in mapping {
        try value.refuseOldNumbers(at: path.isEmpty ? key.string ?? "" : "\(path).\(key.string ?? "")")
      }
    case .sequence(let sequence):
      for (i, value) in sequence.enumerated() { try value.refuseOldNumbers(at: "\(path)[\(i)]") }
    case .scalar(let scalar) where scalar.style == .plain || scalar.style == .any:
      let isOld = scalar.string.wholeMatch(of: /[-+]?([0-9][0-9_]*(:[0-9]+)+(\.[0-9_]*)?|0[0-9_]+)/) != nil
      let reading = Int.construct(from: scalar).map { "\($0)" } ?? Double.construct(from: scalar).map { "\($0)" }
      let isProgrammers = reading != nil && scalar.string.contains(/_|0[xXbBoO]/)
      if isOld || isProgrammers {
        let words = reading.map { ", which YAML reads as \($0)" } ?? ""
        throw RecipeError("\(path): found `\(scalar.string)`\(words); write a plain decimal number")
      }
    default: break
    }
  }

  /// Sets `a.b=value`.
  fileprivate mutating func apply(_ override: String) throws {
    let parts = override.split(separator: "=", maxSplits: 1).map(String.init)
    guard parts.count == 2, !parts[0].isEmpty else {
      throw RecipeError("`--set \(override)` is no override; write it as --set optimizer.rate=0.6")
    }
    guard let value = try Yams.compose(yaml: parts[1]) else { throw RecipeError("`--set \(override)` has no value") }
    try set(parts[0].split(separator: ".").map(String.init)[...], to: value, whole: override)
  }

  private mutating func set(_ path: ArraySlice<String>, to value: Node, whole: String) throws {
    guard let key = path.first else {
      self = value
      return
    }
    if case .sequence(var sequence) = self {
      guard let index = Int(key), sequence.indices.contains(index) else {
        throw RecipeError(
          "`--set \(whole)`: `\(key)` is none of the \(sequence.count) entries of a list, counted from 0")
      }
      try sequence[index].set(path.dropFirst(), to: value, whole: whole)
      self = .sequence(sequence)
      return
    }
    guard case .mapping(var mapping) = self else {
      throw RecipeError("`--set \(whole)`: nothing lies below a plain value at `\(key)`")
    }
    var child = mapping[Node(key)] ?? .mapping(Mapping([]))
    try child.set(path.dropFirst(), to: value, whole: whole)
    mapping[Node(key)] = child
    self = .mapping(mapping)
  }
}
