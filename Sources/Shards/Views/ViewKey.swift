import Randomness

/// What a view's draws are keyed by, and which view of its kind it is.
package struct ViewKey: Sendable {
  package var seed: UInt64, epoch: Int, step: Int, sample: Int
  /// The view whose draws are taken, counted over all views of a sample: the view itself, or the first of its kind for
  /// operations that are the same in all of them.
  package var view: Int
  /// Number of the view within its kind, and how many views the kind has.
  package var index: Int, count: Int
  /// The first view of the kind, counted over all views of a sample.
  package var first: Int
  /// How many operations of the same name stand before this one in the recipe.
  package var occurrence: Int

  /// - Parameters:
  ///   - view: a kind of its own unless `index` and `count` say otherwise.
  package init(
    seed: UInt64, epoch: Int, step: Int, sample: Int, view: Int, index: Int = 0, count: Int = 1, occurrence: Int = 0
  ) {
    self.seed = seed
    self.epoch = epoch
    self.step = step
    self.sample = sample
    self.view = view
    self.index = index
    self.count = count
    first = view - index
    self.occurrence = occurrence
  }

  /// Draws of this view of this sample.
  package func draws(_ purpose: Purpose) -> Draws {
    occurrence == 0
      ? Draws(seed: seed, purpose, UInt64(epoch), UInt64(sample), UInt64(view))
      : Draws(seed: seed, purpose, UInt64(epoch), UInt64(sample), UInt64(view), UInt64(occurrence))
  }

  /// Draws that all views of the kind share, for this sample; others than any view's own.
  package func kindDraws(_ purpose: Purpose) -> Draws {
    Draws(seed: seed, purpose, UInt64(epoch), UInt64(sample), .max - UInt64(first), UInt64(occurrence))
  }

  /// Draws that all samples of a batch share, for this view.
  package func batchDraws(_ purpose: Purpose) -> Draws {
    Draws(seed: seed, purpose, .max, UInt64(step), UInt64(view), UInt64(occurrence))
  }
}
