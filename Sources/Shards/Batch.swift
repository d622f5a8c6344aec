/// All views of one kind in a batch.
package struct ViewGroup {
  package let recipe: ViewRecipe
  /// (recipe.count · images, size, size, channels): all images of view 0, then of view 1.
  package let pixels: UnsafeMutablePointer<Float>
}

/// A rank's share of a step's global batch. Its memory is the loader's, valid until `release`.
package final class Batch {
  /// Counts over the whole run.
  package let step: Int, epoch: Int
  /// Images in the global batch, and which of its positions these are.
  package let globalCount: Int, positions: Range<Int>
  /// Sample ids by image, in order of position.
  package let samples: [Int]
  /// -1 where there is none.
  package let labels: [Int32]
  package let groups: [ViewGroup]
  /// Images here.
  package var count: Int { samples.count }

  init(
    step: Int, epoch: Int, globalCount: Int, positions: Range<Int>, samples: [Int], labels: [Int32],
    groups: [ViewGroup]
  ) {
    (self.step, self.epoch, self.globalCount, self.positions) = (step, epoch, globalCount, positions)
    (self.samples, self.labels, self.groups) = (samples, labels, groups)
  }
}
