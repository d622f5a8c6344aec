import Randomness

/// How the global batch is divided for batch normalisation. A group is a set of *images of the global batch*, whatever
/// ranks hold them: one rank may hold several groups, one group may span ranks, and the numbers are the same on any
/// number of ranks.
package enum NormalisationGroups: Sendable, Equatable {
  /// One group: statistics over the whole global batch.
  case global
  /// Neighbouring positions of the global batch, `images` in a group (MoCo: 32, one GPU's share of 256).
  case group(images: Int)
  /// As `group`, but the images of a group are drawn anew at every step. MoCo's ShuffleBN moves the keys' images
  /// between GPUs; here ranks exchange *statistics*, so nothing is decoded twice and no image moves.
  case shuffle(images: Int)

  /// The number of groups that a batch of `batch` images is divided into, as evenly as possible.
  package func count(batch: Int) -> Int {
    switch self {
    case .global: 1
    case .group(let images), .shuffle(let images): max(1, batch / images)
    }
  }
}

/// The BN group of every image of a local tensor. The memory belongs to the arena.
package struct BatchGroups {
  /// Groups of the global batch: those of the first view, then of the next, if every view is a batch of its own.
  package let count: Int
  /// The number of batches: 1, or that of the views. Running statistics move towards one after the other.
  package let batches: Int
  /// By local image.
  package let group: UnsafeMutableBufferPointer<Int32>
  /// Whether other ranks hold images of the batch: the running statistics are over all its groups.
  package let isShared: Bool
  /// Whether a group spans ranks, so that its gradients' sums have to travel too.
  package let spansRanks: Bool

  /// - Parameters:
  ///   - kind: how the global batch is divided.
  ///   - batch: images of the global batch.
  ///   - positions: which of them this rank holds.
  ///   - views: how many tensors of these images are stacked, one view after the other.
  ///   - shared: whether all views are in one batch; else each has groups of its own.
  ///   - order: for `shuffle`, the place of every position of the global batch in the shuffled one.
  package init(
    _ kind: NormalisationGroups, batch: Int, positions: Range<Int>, views: Int = 1, shared: Bool = true,
    order: [Int]? = nil, ranks: Int, in arena: Arena
  ) {
    let count = kind.count(batch: batch)
    batches = shared ? 1 : views
    self.count = count * batches
    group = arena.array(of: Int32.self, count: max(1, positions.count * views))
    for view in 0..<views {
      for (i, position) in positions.enumerated() {
        let place = order?[position] ?? position
        group[view * positions.count + i] = Int32(place * count / batch + (shared ? 0 : view * count))
      }
    }
    var spans = ranks > 1
    if spans, count > 1, order == nil {
      // The result must agree on all ranks, so check every boundary between ranks, not only ours.
      spans = (1..<ranks).contains { rank in
        let border = rank * batch / ranks
        return border > 0 && border < batch && border * count / batch == (border - 1) * count / batch
      }
    }
    spansRanks = spans
    isShared = ranks > 1
  }

  /// The groups of some of the local images, for a batch that is computed in parts. That is not exact for a group that
  /// spans ranks or parts; recipes that ask for it are refused.
  package func images(_ range: Range<Int>) -> BatchGroups {
    BatchGroups(self, UnsafeMutableBufferPointer(rebasing: group[range]))
  }

  private init(_ other: BatchGroups, _ group: UnsafeMutableBufferPointer<Int32>) {
    count = other.count
    batches = other.batches
    isShared = other.isShared
    spansRanks = other.spansRanks
    self.group = group
  }

  /// All images in one group, on this process alone: for evaluation and tests.
  package init(images: Int, in arena: Arena) {
    self.init(.global, batch: images, positions: 0..<images, ranks: 1, in: arena)
  }

  /// The permutation of a shuffled batch: keyed by (seed, step), the same on every rank.
  package static func shuffle(batch: Int, seed: UInt64, step: Int, into places: inout [Int]) {
    var draws = Draws(seed: seed, .shuffle, UInt64(step))
    draws.shuffle(batch, into: &places)
  }
}
