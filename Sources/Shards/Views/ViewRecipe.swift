/// One kind of view: how many of it, how large, and its operations in the order in which they run.
///
///     {count: 2, size: 224, operations: [{crop: {scale: [0.2, 1]}}, {flip: 0.5}, {grey: 0.2}, {normalise: dataset}]}
///
/// The order is part of a method's recipe: MoCo v1 turns grey before it jitters colours, v2 and SimCLR after.
package struct ViewRecipe: Codable, Equatable, Sendable {
  package var count = 1
  /// Side of the square view, pixels.
  package var size: Int
  package var operations: [Operation] = []

  package init(count: Int = 1, size: Int, operations: [any ViewOperation] = []) {
    self.count = count
    self.size = size
    self.operations = operations.map(Operation.init)
  }

  private enum CodingKeys: String, CodingKey, CaseIterable { case count, size, operations }

  package init(from decoder: any Swift.Decoder) throws {
    let keys = try decoder.strict(CodingKeys.self, of: "a view")
    count = try keys.value(.count, default: count)
    size = try keys.decode(Int.self, forKey: .size)
    operations = try keys.value(.operations, default: [])
  }

  /// What the view shows of the image: its first operation, or the central square.
  package var framing: any Framing { operations.first?.body as? any Framing ?? Centre() }

  /// The operations on pixels, each with the number of operations of the same name before it.
  var augmentations: [(operation: any Augmentation, occurrence: Int)] {
    var seen: [String: Int] = [:]
    return operations.compactMap { row in
      guard let operation = row.body as? any Augmentation else { return nil }
      seen[row.name, default: -1] += 1
      return (operation, seen[row.name]!)
    }
  }

  /// Refuses what cannot be run on data of this many channels.
  /// - Returns: notices about what does nothing to such data.
  package func validate(channels: Int) throws(RecipeError) -> [String] {
    guard (1...64).contains(count) else { throw RecipeError("views: count is \(count); expected 1 to 64") }
    guard (1...4096).contains(size) else { throw RecipeError("views: size is \(size); expected 1 to 4096 pixels") }
    var idle: [String] = []
    for (i, row) in operations.enumerated() {
      if i > 0, row.body is any Framing {
        throw RecipeError("views: `\(row.name)` is operation \(i + 1); it must be the first, and only once")
      }
      if row.name == Normalise.name, i < operations.count - 1 {
        throw RecipeError("views: `normalise` is operation \(i + 1) of \(operations.count); it must be the last")
      }
      idle += try row.body.validate(size: size, channels: channels)
    }
    if idle.isEmpty { return [] }
    let verb = idle.count == 1 ? "does" : "do"
    return ["\(idle.joined(separator: ", ")) \(verb) nothing on \(channels)-channel data: left out"]
  }
}
