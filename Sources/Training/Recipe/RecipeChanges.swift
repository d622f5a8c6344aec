import Yams

/// What differs between two resolved recipes.
package enum RecipeChanges {
  package struct Change: Sendable, Equatable, CustomStringConvertible {
    /// Path of the field, such as `optimizer.rate` or `stages.1.optimizer.rate`.
    package let field: String
    package let old: String, new: String
    package var description: String { "\(field): \(old) → \(new)" }

    /// Whether the field decides what is learned: how often something is told or saved does not, and neither does a
    /// length, which is compared in steps.
    package var matters: Bool {
      var path = field.split(separator: ".")[...]
      if path.first == "stages" { path = path.dropFirst(2) }
      if ["log", "monitor", "checkpoint", "length", "name"].contains(path.first) { return false }
      return Array(path) != ["data", "ahead"]
    }
  }

  /// Lines such as `optimizer.rate: 0.3 → 0.6`. A field that the older recipe lacks has its default there.
  package static func between(_ old: String, _ new: String) throws -> [Change] {
    let resolved = try? Recipe(yaml: old, from: "the run's recipe").yaml
    let old = try flat(resolved ?? old)
    let new = try flat(new)
    return Set(old.keys).union(new.keys).sorted().filter { old[$0] != new[$0] }.map {
      Change(field: $0, old: old[$0] ?? "not there", new: new[$0] ?? "not there")
    }
  }

  private static func flat(_ yaml: String) throws -> [String: String] {
    var values: [String: String] = [:]
    func visit(_ node: Node, _ path: String) {
      if let mapping = node.mapping {
        for (key, value) in mapping { visit(value, path.isEmpty ? key.string ?? "" : "\(path).\(key.string ?? "")") }
      } else if let sequence = node.sequence {
        for (i, value) in sequence.enumerated() { visit(value, "\(path).\(i)") }
      } else {
        values[path] = node.string ?? ""
      }
    }
    if let root = try Yams.compose(yaml: yaml) { visit(root, "") }
    return values
  }
}
