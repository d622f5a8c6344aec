import CZlib
import Engine
import Ranks
import Shards

/// Features of images from a frozen encoder, shared out over ranks.
package struct FeatureExtractor {
  package let network: Network
  package let state: NetworkState
  package let input: EncoderInput
  package let context: Context
  /// Images in a forward pass; small, so that its maps stay near the processor.
  package var batch = 32

  package init(_ network: Network, _ state: NetworkState, input: EncoderInput, context: Context) {
    self.network = network
    self.state = state
    self.input = input
    self.context = context
  }

  /// Allocates as `features` does: for a dry run.
  package func plan() {
    context.scratch { arena in
      let images = arena.tensor(n: batch, h: input.size, w: input.size, c: input.channels)
      _ = network.forward(images, tap: .features, pass(batch, arena))
    }
  }

  /// - Parameter samples: whose features; the same on every rank.
  /// - Returns: (samples.count, D) row by row, on every rank.
  /// - Throws: `LoadError` for an image that cannot be loaded; `RunError` if the encoder changed on the way.
  package func features(of data: DataSet, _ samples: [Int]) throws -> [Float] {
    let communicator = context.communicator
    let before = state.checksum
    let d = network.encoder.options.features
    let mine = share(of: samples.count, rank: communicator.rank, ranks: communicator.size)
    var local = [Float](repeating: 0, count: max(1, mine.count * d))
    for first in stride(from: mine.lowerBound, to: mine.upperBound, by: batch) {
      let count = min(batch, mine.upperBound - first)
      try context.scratch { arena in
        let images = arena.tensor(n: count, h: input.size, w: input.size, c: input.channels)
        try input.fill(data, samples: Array(samples[first..<first + count]), into: images.data, context.team)
        let features = network.forward(images, tap: .features, pass(count, arena)).features
        let at = (first - mine.lowerBound) * d
        for i in 0..<features.count { local[at + i] = features.data[i] }
      }
    }
    guard state.checksum == before else {
      throw RunError(
        "the encoder changed while its features were taken: an evaluation must not train; this is a defect of apus")
    }
    let counts = (0..<communicator.size).map { share(of: samples.count, rank: $0, ranks: communicator.size).count }
    var all = [Float](repeating: 0, count: max(1, samples.count * d))
    communicator.allGather(&local, rows: counts, width: d, into: &all, "features")
    return Array(all.prefix(samples.count * d))
  }

  private func pass(_ images: Int, _ arena: Arena) -> Pass {
    Pass(context, state, .inference, BatchGroups(images: images, in: arena))
  }
}

extension NetworkState {
  /// Changes with any bit of any value.
  package var checksum: UInt32 {
    [parameters, statistics].reduce(0) { czlib_crc32($0, $1.data, $1.count * MemoryLayout<Float>.stride) }
  }
}

extension DataSet {
  /// Labelled samples, evenly spread over the set, at most `limit`.
  package func labelled(limit: Int?) -> [Int] {
    let all = (0..<count).filter { label($0) != nil }
    guard let limit, limit < all.count else { return all }
    return (0..<limit).map { all[$0 * all.count / limit] }
  }

  /// The table of some samples' features.
  package func table(_ features: [Float], _ samples: [Int]) -> FeatureTable {
    FeatureTable(features: features, labels: samples.map { Int32(label($0) ?? -1) }, classCount: classNames.count)
  }
}
