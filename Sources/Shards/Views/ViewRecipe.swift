/// One kind of view: how many of it, how large, and its operations in the order in which they run.
///
///     {count: 2, size: 224, operations: [{crop: {scale: [0.2, 1]}}, {flip: 0.5}, {grey: 0.2}, {normalise: dataset}]}
///     {count: 4, size: 32, same: [crop, flip], operations: [{crop: {}}, {flip: 0.5}, {rotate: each}]}
///
/// The order is part of a method's recipe: MoCo v1 turns grey before it jitters colours, v2 and SimCLR after.
package struct ViewRecipe: Codable, Equatable, Sendable {
  package var count: Int
  /// Side of the square view, pixels.
  package var size: Int
  /// Operations, by name, whose draws all views of the kind share: they differ in the others alone.
  package var same: [String]
  package var operations: [Operation]

  package init(count: Int = 1, size: Int, same: [String] = [], operations: [any ViewOperation] = []) {
    self.count = count
    self.size = size
    self.same = same
    self.operations = operations.map(Operation.init)
  }

  private enum CodingKeys: String, CodingKey, CaseIterable { case count, size, same, operations }

  package init(from decoder: any Swift.Decoder) throws {
    let keys = try decoder.strict(CodingKeys.self, of: "a view")
    let defaults = ViewRecipe(size: 0)
    count = try keys.value(.count, default: defaults.count)
    size = try keys.decode(Int.self, forKey: .size)
    same = try keys.value(.same, default: defaults.same)
    operations = try keys.value(.operations, default: defaults.operations)
  }

  package func encode(to encoder: any Encoder) throws {
    var keys = encoder.container(keyedBy: CodingKeys.self)
    try keys.encode(count, forKey: .count)
    try keys.encode(size, forKey: .size)
    if !same.isEmpty { try keys.encode(same, forKey: .same) }
    try keys.encode(operations, forKey: .operations)
  }

  /// What the view shows of the image: its first operation, or the central square.
  package var framing: any Framing { operations.first?.body as? any Framing ?? Centre() }

  /// The operation that gives the views their targets, and how many targets there are.
  package var puzzle: (any Puzzle)? {
    operations.lazy.compactMap { $0.body as? any Puzzle }.first { $0.answers > 0 }
  }

  /// Channels of the views.
  /// - Parameter channels: of the data.
  package func channels(of channels: Int) -> Int {
    var found: [Int?] = Array(0..<channels)
    for row in operations {
      if let operation = row.body as? any Augmentation { found = operation.channels(of: found) }
    }
    return found.count
  }

  /// The operations, each with the number of operations of the same name before it.
  var numbered: [(body: any ViewOperation, occurrence: Int)] {
    var seen: [String: Int] = [:]
    return operations.map { row in
      seen[row.name, default: -1] += 1
      return (row.body, seen[row.name]!)
    }
  }

  /// Refuses what cannot be run on data of this many channels.
  /// - Returns: notices about what does nothing to such data.
  package func validate(channels: Int) throws(RecipeError) -> [String] {
    guard (1...64).contains(count) else { throw RecipeError("views: count is \(count); expected 1 to 64") }
    guard (1...4096).contains(size) else { throw RecipeError("views: size is \(size); expected 1 to 4096 pixels") }
    try checkOrder()
    for name in same where !operations.contains(where: { $0.name == name }) {
      throw RecipeError("views: `same` lists `\(name)`, which is not among the operations of the view")
    }
    var idle: [(channels: Int, what: [String])] = []
    var found: [Int?] = Array(0..<channels)
    for row in operations {
      if found.contains(nil), row.body as? Normalise == .dataset {
        throw RecipeError(
          "normalise: dataset, but `channels` made other values of the data set's; give mean and deviation")
      }
      let what = try row.body.validate(self, channels: found.count)
      if idle.last?.channels == found.count {
        idle[idle.count - 1].what += what
      } else {
        idle.append((found.count, what))
      }
      if let operation = row.body as? any Augmentation { found = operation.channels(of: found) }
    }
    return idle.filter { !$0.what.isEmpty }.map { channels, what in
      let verb = what.count == 1 ? "does" : "do"
      return "\(what.joined(separator: ", ")) \(verb) nothing on \(channels)-channel data: left out"
    }
  }

  private func checkOrder() throws(RecipeError) {
    for (i, row) in operations.enumerated() {
      if i > 0, row.body is any Framing {
        throw RecipeError("views: `\(row.name)` is operation \(i + 1); it must be the first, and only once")
      }
      if row.name == Normalise.name, i < operations.count - 1 {
        throw RecipeError("views: `normalise` is operation \(i + 1) of \(operations.count); it must be the last")
      }
    }
    let puzzles = operations.filter { ($0.body as? any Puzzle)?.answers ?? 0 > 0 }.map { "`\($0.name)`" }
    if puzzles.count > 1 {
      throw RecipeError(
        "views: \(puzzles.joined(separator: " and ")) each give a target; a kind of view has one at most")
    }
  }
}
