import Engine
import Foundation
import Randomness
import Shards

/// Shows that exported weights compute what a run's encoder computes.
package struct ExportProof {
  private let encoder: FeatureSource
  private let context: Context
  private let count = 4

  package init(_ encoder: FeatureSource, context: Context) {
    self.encoder = encoder
    self.context = context
  }

  private var size: Int { encoder.input.size }

  /// A few images, (N, H, W, C): of a data set, or drawn.
  package func images(from data: DataSet?) throws -> [Float] {
    var pixels = [Float](repeating: 0, count: count * size * size * encoder.input.channels)
    if let data {
      let samples = (0..<count).map { $0 * data.count / count }
      try pixels.withUnsafeMutableBufferPointer {
        try encoder.input.fill(data, samples: samples, into: $0.baseAddress!, context.team)
      }
    } else {
      var draws = Draws(seed: 0, .probe)
      for i in pixels.indices { pixels[i] = Float(draws.normal()) }
    }
    return pixels
  }

  /// (N, D)
  package func features(_ images: [Float], _ state: NetworkState) -> [Float] {
    context.scratch { arena in
      let x = arena.tensor(n: count, h: size, w: size, c: encoder.input.channels)
      for i in images.indices { x.data[i] = images[i] }
      let pass = Pass(context, state, .inference, BatchGroups(images: count, in: arena))
      return Array(encoder.network.forward(x, tap: .features, pass).features.buffer)
    }
  }

  /// - Throws: `RunError` where the file's features differ in any bit.
  package func check(_ path: String, _ images: [Float]) throws {
    let copy = encoder.network.makeState()
    try Weights.load(path, into: copy)
    guard features(images, copy) == features(images, encoder.state) else {
      throw RunError(
        "\(path) was written, but its features differ from the run's: do not use it; this is a defect of apus")
    }
  }

  /// `view.0` (N, C, H, W) and `features` (N, D).
  package func write(_ images: [Float], to path: String) throws {
    let c = encoder.input.channels
    let area = size * size
    var planar = images
    for n in 0..<count {
      for i in 0..<area { for j in 0..<c { planar[(n * c + j) * area + i] = images[(n * area + i) * c + j] } }
    }
    let values = features(images, encoder.state)
    try Safetensors.write(
      [
        (name: "view.0", shape: [count, c, size, size], values: .floats(planar)),
        (name: "features", shape: [count, values.count / count], values: .floats(values)),
      ], metadata: [:], to: path)
  }
}
