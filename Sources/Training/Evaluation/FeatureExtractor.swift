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
  /// Images in a forward pass; small, so that its maps stay in cache.
  package var batch = 32

  package init(_ network: Network, _ state: NetworkState, input: EncoderInput, context: Context) {
    self.network = network
    self.state = state
    self.input = input
    self.context = context
  }

  /// Numbers of an image's features.
  package var dimension: Int { network.encoder.options.features }

  /// Allocates as `features` does: for a dry run.
  package func plan() {
    context.scratch { arena in
      let images = arena.tensor(n: batch, h: input.size, w: input.size, c: input.channels)
      _ = network.forward(images, tap: .features, pass(batch, arena))
    }
  }

  /// The features of labelled images as a table.
  /// - Parameter classCount: of the training set.
  package func table(_ images: LabelledImages, classCount: Int) throws -> FeatureTable {
    FeatureTable(
      features: try features(of: images.set, images.samples), labels: images.labels, classCount: classCount)
  }

  /// - Parameter samples: whose features; the same on every rank.
  /// - Returns: (samples.count, D) row by row, on every rank.
  /// - Throws: `LoadError` for an image that cannot be loaded; `RunError` if the encoder changed on the way.
  package func features(of data: DataSet, _ samples: [Int]) throws -> [Float] {
    let before = state.checksum
    let features = try context.communicator.gatherRows(samples, width: dimension) { mine, rows in
      for first in stride(from: 0, to: mine.count, by: batch) {
        let part = Array(mine.dropFirst(first).prefix(batch))
        try context.scratch { arena in
          let images = arena.tensor(n: part.count, h: input.size, w: input.size, c: input.channels)
          try input.fill(data, samples: part, into: images.data, context.team)
          let features = network.forward(images, tap: .features, pass(part.count, arena)).features
          (rows + first * dimension).update(from: features.data, count: part.count * dimension)
        }
      }
    }
    guard state.checksum == before else {
      throw RunError(
        "the encoder changed while its features were taken: an evaluation must not train; this is a defect of apus")
    }
    return features
  }

  private func pass(_ images: Int, _ arena: Arena) -> Pass {
    Pass(context, state, .inference, BatchGroups(images: images, in: arena))
  }
}

extension EncoderInput {
  /// The pixels of labelled images, as the encoder is fed them, as a table. Shared out over ranks.
  package func table(_ images: LabelledImages, classCount: Int, _ context: Context) throws -> FeatureTable {
    let pixels = try context.communicator.gatherRows(images.samples, width: size * size * channels) { mine, rows in
      try fill(images.set, samples: mine, into: rows, context.team)
    }
    return FeatureTable(features: pixels, labels: images.labels, classCount: classCount)
  }
}

extension Communicator {
  /// Rows of numbers, one for each sample: each rank makes those of its share, and every rank gets all.
  /// - Parameter make: fills a row of `width` floats for each of the samples that it is given.
  func gatherRows(
    _ samples: [Int], width: Int, _ make: (_ mine: [Int], _ rows: UnsafeMutablePointer<Float>) throws -> Void
  ) throws -> [Float] {
    let shares = (0..<size).map { share(of: samples.count, rank: $0, ranks: size) }
    let mine = Array(samples[shares[rank]])
    // A rank without rows takes part in the gather with an address of its own.
    var own = [Float](repeating: 0, count: max(1, mine.count * width))
    try own.withUnsafeMutableBufferPointer { try make(mine, $0.baseAddress!) }
    var all = [Float](repeating: 0, count: max(1, samples.count * width))
    allGather(&own, rows: shares.map(\.count), width: width, into: &all, "features")
    if samples.isEmpty { all = [] }
    return all
  }
}

extension NetworkState {
  /// Changes with any bit of any value.
  package var checksum: UInt32 {
    [parameters, statistics].reduce(0) { czlib_crc32($0, $1.data, $1.count * MemoryLayout<Float>.stride) }
  }
}
