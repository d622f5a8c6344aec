import Engine

/// The BN groups of a step's passes: neighbours in the batch, or, for keys under ShuffleBN, randomly drawn images.
final class StepGroups {
  private let setting: MethodSetting
  /// This step's shuffled batch.
  private var places: [Int] = []

  /// Warnings of BN groups whose statistics reveal the positives.
  static func leaks(_ method: String, _ stage: Stage) -> [String] {
    let groups = stage.batchNorm.groups
    let which: String
    if groups.count(batch: stage.batch) == 1 {
      which = "one BN group"
    } else if case .group = groups {
      which = "fixed BN groups"
    } else {
      return []
    }
    return [
      "\(method) with \(which) leaks: a query and its key share statistics, so the pretext task gets easy; take "
        + "batchNorm: {shuffle: 32} and a batch of several groups, as the paper's"
    ]
  }

  init(_ setting: MethodSetting) { self.setting = setting }

  /// - Parameters:
  ///   - views: number of views that are stacked in the tensor.
  ///   - shared: whether they are in one BN batch.
  ///   - shuffled: whether groups of kind `shuffle` are drawn; if not, they are neighbours. Other kinds ignore it.
  func callAsFunction(
    _ input: MethodInput, views: Int = 1, shared: Bool = true, shuffled: Bool = false, in arena: Arena
  ) -> BatchGroups {
    var kind = setting.normalisation
    var order: [Int]?
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
