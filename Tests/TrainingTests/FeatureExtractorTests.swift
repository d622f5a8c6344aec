import Engine
import Foundation
import Ranks
import Shards
import TestSupport
import Testing
import Training

/// Features do not depend on the ranks, nor on the set's own statistics.
@Suite struct FeatureExtractorTests {
  static func features(
    _ data: DataSet, _ samples: [Int], _ input: EncoderInput, _ communicator: any Communicator
  ) throws -> [Float] {
    let network = Network(ResNet.Options(.resnet18, width: 0.0625, stem: .small, channels: 1))
    let state = network.makeState()
    state.initialise(seed: 3)
    let context = Context(communicator: communicator)
    return try FeatureExtractor([FeatureSource("encoder", network, state, input: input)], context: context).features(
      of: data, samples)
  }

  @Test func ranksShareOutImagesAndGetTheSame() throws {
    let tiny = try TinyRun()
    let data = try tiny.pack("train", count: 70)
    let input = EncoderInput(size: 8, mean: [0.5], deviation: [0.3])
    let samples = Array(stride(from: 0, to: 70, by: 2)) + [1]
    let one = try Self.features(data, samples, input, SingleProcess())
    #expect(one.count == 36 * 32 && one.allSatisfy(\.isFinite) && Set(one).count > 100)
    for ranks in [2, 3] {
      for found in try Ranks.run(ranks, { try Self.features(data, samples, input, $0) }) {
        #expect(found == one, "\(ranks) ranks")
      }
    }
    // More ranks than images.
    for found in try Ranks.run(3, { try Self.features(data, [4], input, $0) }) {
      #expect(found == Array(one[2 * 32..<3 * 32]))
    }
    #expect(try Self.features(data, [], input, SingleProcess()).isEmpty)
  }

  /// The same images packed with other statistics have the same features.
  @Test func theSetsOwnStatisticsDoNotMatter() throws {
    let tiny = try TinyRun()
    let like = try tiny.pack("like", count: 20)
    let own = try tiny.pack("own", count: 20, mean: 0.1, deviation: 0.05)
    let input = EncoderInput(size: 8, mean: [0.5], deviation: [0.3])
    let all = Array(0..<20)
    #expect(
      try Self.features(own, all, input, SingleProcess()) == Self.features(like, all, input, SingleProcess()))
  }
}
