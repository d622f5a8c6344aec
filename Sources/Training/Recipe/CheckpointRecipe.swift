import Shards

/// When checkpoints are written, besides at the end and on a signal.
package struct CheckpointRecipe: Options, Sendable, Equatable {
  package static let title = "checkpoint"

  package var every: Length = .epochs(1)
  /// By the clock, whatever the steps.
  package var minutes = 15.0
  /// How many are kept, at least 2.
  package var keep = 2

  package init() {}

  package func check() throws(RecipeError) {
    try require("keep", keep, keep <= 1_000_000_000, "at most 1000000000")
    guard keep >= 2, minutes > 0 else {
      throw RecipeError("`keep` is \(keep) and `minutes` \(minutes); at least 2 are kept, minutes are above 0")
    }
    try every.requireAboveZero("every")
  }
}
