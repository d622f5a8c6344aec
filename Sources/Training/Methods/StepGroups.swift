import Engine

/// The BN groups of a step's passes: neighbours in the batch, or, for keys under ShuffleBN, who is drawn together.
final class StepGroups {
  private let setting: MethodSetting
  /// This step's shuffled batch.
  private var places: [Int] = []

  /// Warns of BN groups that give the positives away.
  static func leaks(_ method: String, _ groups: NormalisationGroups) -> [String] {
    let which: String
    switch groups {
    case .shuffle: return []
    case .group: which = "fixed BN groups"
    case .global: which = "one BN group"
    }
    return [
      "\(method) with \(which) leaks: a query and its key share statistics, so the pretext task gets easy; "
        + "batchNorm: {shuffle: 32} is the paper's"
    ]
  }

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
