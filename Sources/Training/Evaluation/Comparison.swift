import Engine
import Foundation
import Shards

/// Evaluates an encoder beside the same encoder without training, and beside raw pixels.
package struct Comparison {
  package let encoder: FrozenEncoder
  package let train: DataSet, test: DataSet
  /// Labelled images that are taken of each; nil for all.
  package var trainLimit: Int?, testLimit: Int?
  /// Whether random weights and raw pixels are evaluated too.
  package var baselines = true
  package let context: Context

  package init(_ encoder: FrozenEncoder, train: DataSet, test: DataSet, context: Context) {
    self.encoder = encoder
    self.train = train
    self.test = test
    self.context = context
  }

  /// The tables of the learned features, and all results.
  package struct Outcome {
    package var results: [EvaluationResult] = []
    package var train: FeatureTable, test: FeatureTable
    package var trainSamples: [Int], testSamples: [Int]
  }

  /// - Parameter say: gets a line of progress.
  package func run(_ say: (String) -> Void) throws -> Outcome {
    for set in [train, test] where set.channels != encoder.input.channels {
      throw RunError("\(set.path) has \(set.channels) channels, the encoder takes \(encoder.input.channels)")
    }
    guard train.classNames == test.classNames else {
      throw RunError(
        "\(train.path) and \(test.path) name their classes differently; pack the second with --like the first")
    }
    let a = train.labelled(limit: trainLimit)
    let b = test.labelled(limit: testLimit)
    guard !a.isEmpty, !b.isEmpty else {
      throw RunError("evaluation needs labels: \(train.path) has \(a.count) labelled images, \(test.path) \(b.count)")
    }
    var results: [EvaluationResult] = []
    func evaluate(_ name: String, _ features: (DataSet, [Int]) throws -> [Float]) throws -> (FeatureTable, FeatureTable)
    {
      say("features of \(a.count) + \(b.count) images: \(name)")
      let tables = (train.table(try features(train, a), a), test.table(try features(test, b), b))
      for evaluation in Evaluations.all {
        var result = try evaluation.run(train: tables.0, test: tables.1, on: context)
        result.features = name
        results.append(result)
        say(
          "  \(result.title): \(percent(result.top1)) % [\(percent(result.interval.low)), \(percent(result.interval.high))]"
        )
      }
      return tables
    }
    let learned = try evaluate("learned") { try extractor(encoder.state).features(of: $0, $1) }
    if baselines {
      let random = encoder.untrained()
      _ = try evaluate("random weights") { try extractor(random).features(of: $0, $1) }
      _ = try evaluate("raw pixels") { try pixels(of: $0, $1) }
    }
    return Outcome(results: results, train: learned.0, test: learned.1, trainSamples: a, testSamples: b)
  }

  private func extractor(_ state: NetworkState) -> FeatureExtractor {
    FeatureExtractor(encoder.network, state, input: encoder.input, context: context)
  }

  private func pixels(of data: DataSet, _ samples: [Int]) throws -> [Float] {
    let length = encoder.input.size * encoder.input.size * data.channels
    var all = [Float](repeating: 0, count: samples.count * length)
    try all.withUnsafeMutableBufferPointer {
      try encoder.input.fill(data, samples: samples, into: $0.baseAddress!, context.team)
    }
    return all
  }

  /// What was learned, in a sentence.
  package static func summary(_ results: [EvaluationResult]) -> String {
    func probe(_ features: String) -> EvaluationResult? {
      results.first { $0.name == LinearProbe.name && $0.features == features }
    }
    func words(_ r: EvaluationResult) -> String {
      "\(percent(r.top1)) % [\(percent(r.interval.low)), \(percent(r.interval.high))]"
    }
    guard let learned = probe("learned") else { return "" }
    var text =
      "A linear probe on the learned features names \(words(learned)) of \(grouped(learned.testCount)) held-out images rightly"
    if let random = probe("random weights"), let raw = probe("raw pixels") {
      text += "; on random weights \(words(random)), on raw pixels \(words(raw))"
    }
    return text + ". Brackets: 95 % intervals."
  }
}
