import Yams

/// What differs between two resolved recipes.
package enum RecipeChanges {
  /// Lines such as `optimizer.rate: 0.3 → 0.6`.
  package static func between(_ old: String, _ new: String) throws -> [String] {
    let old = try flat(old)
    let new = try flat(new)
    return Set(old.keys).union(new.keys).sorted().filter { old[$0] != new[$0] }.map {
      "\($0): \(old[$0] ?? "not there") → \(new[$0] ?? "not there")"
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
