import CZlib
import Engine
import Ranks
import Shards

/// An encoder, its weights, and what it is fed.
package struct FeatureSource {
  /// Names its state in a checkpoint, such as `encoder` or `query`.
  package let name: String
  package let network: Network
  package let state: NetworkState
  package let input: EncoderInput
  /// Where the numbers are taken: the encoder's features, or a head's output.
  package let tap: Network.Tap

  package init(
    _ name: String, _ network: Network, _ state: NetworkState, input: EncoderInput, tap: Network.Tap = .features
  ) {
    self.name = name
    self.network = network
    self.state = state
    self.input = input
    self.tap = tap
  }

  /// Numbers of an image's features.
  package var dimension: Int { network.channels(at: tap) }

  /// The same network, tapped elsewhere.
  package func tapped(at tap: Network.Tap) -> FeatureSource {
    FeatureSource(name, network, state, input: input, tap: tap)
  }

  /// The same encoder before it learned anything.
  package func untrained(seed: UInt64) -> FeatureSource {
    let state = network.makeState()
    state.initialise(seed: seed)
    return FeatureSource(name, network, state, input: input, tap: tap)
  }
}

/// Features of images from frozen encoders, shared out over ranks. Those of several encoders stand side by side.
package struct FeatureExtractor {
  package let sources: [FeatureSource]
  package let context: Context
  /// Images in a forward pass; small, so that its maps stay in cache.
  package var batch = 32

  package init(_ sources: [FeatureSource], context: Context) {
    self.sources = sources
    self.context = context
  }

  /// Numbers of an image's features.
  package var dimension: Int { sources.reduce(0) { $0 + $1.dimension } }

  /// Numbers of an image's pixels, as the encoders are fed them.
  package var pixelCount: Int { sources.reduce(0) { $0 + $1.input.pixelCount } }

  /// Allocates as `features` does: for a dry run.
  package func plan() {
    for source in sources {
      context.scratch { arena in
        let input = source.input
        let images = arena.tensor(n: batch, h: input.size, w: input.size, c: input.channels)
        _ = source.network.forward(images, tap: source.tap, pass(source, batch, arena))
      }
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
  package func features(of data: any ImageSource, _ samples: [Int]) throws -> [Float] {
    let before = sources.map(\.state.checksum)
    let features = try context.communicator.gatherRows(samples, width: dimension) { mine, rows in
      var column = 0
      for source in sources {
        try fill(rows + column, of: data, mine, from: source)
        column += source.dimension
      }
    }
    guard sources.map(\.state.checksum) == before else {
      throw RunError(
        "the encoder changed while its features were taken: an evaluation must not train; this is a defect of apus")
    }
    return features
  }

  /// Features of one encoder, a batch at a time.
  /// - rows: where they begin in the first sample's row of `dimension` numbers.
  private func fill(
    _ rows: UnsafeMutablePointer<Float>, of data: any ImageSource, _ samples: [Int], from source: FeatureSource
  ) throws {
    let input = source.input
    for first in stride(from: 0, to: samples.count, by: batch) {
      let part = Array(samples.dropFirst(first).prefix(batch))
      try context.scratch { arena in
        let images = arena.tensor(n: part.count, h: input.size, w: input.size, c: input.channels)
        try input.fill(data, samples: part, into: images.data, context.team)
        let features = source.network.forward(images, tap: source.tap, pass(source, part.count, arena)).output
        for row in part.indices {
          (rows + (first + row) * dimension).update(
            from: features.data + row * source.dimension, count: source.dimension)
        }
      }
    }
  }

  private func pass(_ source: FeatureSource, _ images: Int, _ arena: Arena) -> Pass {
    Pass(context, source.state, .inference, BatchGroups(images: images, in: arena))
  }

  /// The pixels of labelled images, as the encoders are fed them, as a table. Shared out over ranks.
  package func pixelTable(_ images: LabelledImages, classCount: Int) throws -> FeatureTable {
    let width = pixelCount
    let pixels = try context.communicator.gatherRows(images.samples, width: width) { mine, rows in
      if sources.count == 1 { return try sources[0].input.fill(images.set, samples: mine, into: rows, context.team) }
      var column = rows
      for input in sources.map(\.input) {
        let count = input.pixelCount
        let own = UnsafeMutablePointer<Float>.allocate(capacity: max(1, mine.count * count))
        defer { own.deallocate() }
        try input.fill(images.set, samples: mine, into: own, context.team)
        for row in mine.indices { (column + row * width).update(from: own + row * count, count: count) }
        column += count
      }
    }
    return FeatureTable(features: pixels, labels: images.labels, classCount: classCount)
  }
}

extension EncoderInput {
  /// Numbers of an image.
  package var pixelCount: Int { size * size * channels }
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
