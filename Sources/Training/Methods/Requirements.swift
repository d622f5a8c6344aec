import Shards

/// Checks that methods share.
extension Stage {
  /// Refuses other views than those of a method.
  /// - Parameters:
  ///   - counts: the number of views of each kind.
  ///   - meaning: the views in words, for the message.
  func requireViews(_ counts: [Int], by method: String, _ meaning: String) throws(RecipeError) {
    guard views.map(\.count) == counts else {
      throw RecipeError("\(method): views have counts \(views.map(\.count)); it takes \(meaning)")
    }
  }

  /// Refuses what does not fit a method that learns from one view of each image, without keys.
  func requireOneView(by method: String) throws(RecipeError) {
    try requireViews([1], by: method, "one view of an image")
    try requireWholeGroups(by: method)
    try requireUnshuffled(because: "\(method) has no keys")
  }

  /// Refuses gradient accumulation.
  /// - instead: what to use instead.
  func requireOnePart(because reason: String, instead: String) throws(RecipeError) {
    guard accumulate == 1 else { throw RecipeError("accumulate is \(accumulate), but \(reason); use \(instead)") }
  }

  /// Refuses gradient accumulation where a BN group would span the parts of a batch.
  func requireWholeGroups(by method: String) throws(RecipeError) {
    guard accumulate > 1, case .global = batchNorm.groups else { return }
    throw RecipeError(
      "accumulate is \(accumulate), but \(method)'s batch is one BN group; take batchNorm: {group: IMAGES}, or more "
        + "ranks")
  }

  /// Refuses shuffled BN groups, which hide a query's statistics from its key.
  func requireUnshuffled(because reason: String) throws(RecipeError) {
    if case .shuffle = batchNorm.groups {
      throw RecipeError("batchNorm is shuffle, but \(reason); use global or group")
    }
  }
}

/// Refuses an empty list of layers.
func requireLayers(_ key: String, _ layers: [HeadWidth]) throws(RecipeError) {
  if layers.isEmpty { throw RecipeError("`\(key)` is empty; it needs a layer") }
}
