import Shards

/// kNN on held-out images while training.
package struct MonitorRecipe: Options, Sendable, Equatable {
  package static let title = "monitor"

  /// How often; `0 steps` for the end alone.
  package var every: Length = .percent(10)
  /// Labelled images that are taken from the training set and from the held-out set.
  package var train = 4000
  package var test = 1000

  package init() {}

  package func check() throws(RecipeError) {
    guard train > 0, test > 0 else {
      throw RecipeError("`train` is \(train) and `test` \(test) images; both must be above 0")
    }
  }
}
