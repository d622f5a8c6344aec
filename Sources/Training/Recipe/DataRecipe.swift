import Shards

/// Which data set, and in which order it is read.
package struct DataRecipe: Options, Sendable, Equatable {
  package static let title = "data"

  /// The name that a plain `--data PATH` gives to its data set.
  package static let defaultSet = "data"

  /// The data set, as `--data NAME=PATH` names it.
  package var set = DataRecipe.defaultSet
  /// Whose labels a method that learns from labels may see; nil for all.
  package var labels: LabelChoice?
  /// Of these images, how many are kept from training, to choose the best checkpoint by.
  package var validation: LabelChoice.Amount?
  /// The rest of an epoch that fills no batch.
  package var last: LastBatch = .drop
  package var decode: DecodeMode = .full
  /// Neighbouring samples that are read together, and blocks that are mixed with one another; both at most.
  package var block = 16
  package var window = 64
  /// MiB of encoded images that are kept for each image of the batch, so that reads are sequential.
  package var cache = 16
  /// Batches made ahead.
  package var ahead = 3

  package init() {}

  package func check() throws(RecipeError) {
    for (key, value) in [("block", block), ("window", window), ("cache", cache), ("ahead", ahead)] {
      try require(key, value, in: 1...65536)
    }
  }
}

extension ReadPlan {
  /// As a recipe says.
  init(_ source: any ImageSource, batch: Int, seed: UInt64, _ recipe: DataRecipe) throws {
    try self.init(
      source, batch: batch, seed: seed, block: recipe.block, window: recipe.window, cache: recipe.cache << 20,
      last: recipe.last)
  }
}
