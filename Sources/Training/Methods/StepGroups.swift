import Engine

/// The BN groups of a step's passes: neighbours in the batch, or, for keys under ShuffleBN, who is drawn together.
final class StepGroups {
  private let setting: MethodSetting
  /// This step's shuffled batch.
  private var places: [Int] = []

  init(_ setting: MethodSetting) { self.setting = setting }

  /// - Parameters:
  ///   - views: how many are stacked in the tensor.
  ///   - shared: whether they are in one BN batch.
  ///   - shuffled: whether `shuffle` groups are drawn; other kinds of groups are the same for all.
  func callAsFunction(
    _ input: MethodInput, views: Int = 1, shared: Bool = true, shuffled: Bool = false, in arena: Arena
  ) -> BatchGroups {
    var kind = setting.normalisation, order: [Int]?
    if case .shuffle(let images) = kind {
      if shuffled {
        BatchGroups.shuffle(batch: input.batch, seed: setting.seed, step: input.step, into: &places)
        order = input.order ?? places
      } else {
        kind = .group(images: images)
      }
    }
    return BatchGroups(
      kind, batch: input.batch, positions: input.positions, views: views, shared: shared, order: order,
      ranks: input.shares.count, in: arena)
  }
}
