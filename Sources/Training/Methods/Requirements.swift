import Shards

/// What methods demand of a stage.
extension Stage {
  /// - Parameters:
  ///   - counts: how many views each kind must have.
  ///   - meaning: of these views, for the message.
  func requireViews(_ counts: [Int], by method: String, _ meaning: String) throws(RecipeError) {
    guard views.map(\.count) == counts else {
      throw RecipeError("\(method): views have counts \(views.map(\.count)); it takes \(meaning)")
    }
  }

  /// Refuses a batch in parts.
  /// - instead: what to do.
  func requireOnePart(because reason: String, instead: String) throws(RecipeError) {
    guard accumulate == 1 else { throw RecipeError("accumulate is \(accumulate), but \(reason); use \(instead)") }
  }

  /// Refuses shuffled BN groups, which hide a query's statistics from its key.
  func requireUnshuffled(because reason: String) throws(RecipeError) {
    if case .shuffle = batchNorm.groups {
      throw RecipeError("batchNorm is shuffle, but \(reason); use global or group")
    }
  }
}

/// Refuses a list of layers that is empty.
func requireLayers(_ key: String, _ layers: [HeadWidth]) throws(RecipeError) {
  if layers.isEmpty { throw RecipeError("`\(key)` is empty; it needs a layer") }
}
