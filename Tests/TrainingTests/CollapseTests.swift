import Engine
import Foundation
import Shards
import Testing
import Training

/// Runs that fail in each known way get a warning that names the option to change; healthy runs of the same methods
/// get none.
@Suite struct CollapseTests {
  private let images: GreyImages
  private var data: DataSet { images.data }

  /// 96 images, each with its own wave.
  init() throws {
    let side = 12
    images = try GreyImages(count: 96, side: side) { draws in
      let fx = draws.normal()
      let fy = draws.normal()
      let phase = draws.normal()
      return (0..<side * side).map { i in
        UInt8(128 + 100 * cos(fx * Double(i % side) + fy * Double(i / side) + 3 * phase))
      }
    }
  }

  /// The health warnings after some steps.
  private func warnings(_ method: String, rate: Double, steps: Int = 25) throws -> [String] {
    let yaml = """
      encoder: {name: resnet18, width: 0.0625, stem: small}
      views: [{count: 2, size: 10, operations: [{crop: {scale: [0.5, 1]}}, {flip: 0.5}, {normalise: dataset}]}]
      optimizer: {name: sgd, rate: \(rate), scaling: none, momentum: 0.9, decay: 1.0e-4}
      schedule: {name: constant}
      batch: 48
      length: \(steps) steps
      method: \(method)
      batchNorm: global
      """
    let stage = try Recipe(yaml: yaml, from: "test").stages[0]
    let stageRun = try StageRun(stage, data: data, heldOut: nil, seed: 1, index: 0, Context())
    stageRun.method.initialise()
    let loader = try stageRun.loader(from: 0, threads: 1)
    var outcome: Outcome!
    for step in 0..<steps {
      let batch = try loader.next()
      outcome = stageRun.gradients(stageRun.input(batch))
      loader.release(batch)
      stageRun.update(step: step)
    }
    let embeddings = try #require(stageRun.method.embeddings)
    let d = embeddings.dimension
    return EmbeddingHealth(embeddings.values, count: embeddings.values.count / d, dimension: d)
      .warnings(outcome, method: stage.method.value)
  }

  struct Case: CustomStringConvertible, Sendable {
    var name: String, method: String, rate: Double, words: [String]
    var description: String { name }
  }

  static let broken = [
    Case(
      name: "a temperature that levels all candidates",
      method: "{name: simclr, temperature: 100, head: [32, 16], headDeviation: 0.2}",
      rate: 0.01, words: ["sits at ln(95)", "lower optimizer.rate"]),
    Case(
      name: "a hidden layer of one unit", method: "{name: simclr, temperature: 0.2, head: [1, 16], headDeviation: 0.5}",
      rate: 0.02,
      words: ["of 16 dimensions: the rest has collapsed", "lower optimizer.rate"]),
    Case(
      name: "no batch statistics in the head", method: "{name: byol, head: [16], predictor: [16], momentum: 0}",
      rate: 0.2,
      words: ["the embeddings are collapsing", "give method.head and method.predictor a hidden layer each"]),
    Case(
      name: "prototypes that attract all",
      method: "{name: swav, head: [16], prototypes: 60, epsilon: 5, freeze: 0 steps}", rate: 2,
      words: ["of 60 prototypes", "lower method.epsilon"]),
  ]

  @Test(arguments: broken) func theWatchNamesTheCause(_ test: Case) throws {
    let warnings = try warnings(test.method, rate: test.rate)
    for word in test.words { #expect(warnings.contains { $0.contains(word) }, "\(word) not in \(warnings)") }
  }

  /// SwAV's assignments approach one another before they spread; BYOL's predictions do so for longer than a test may
  /// take. So small a run is chaotic, and another order of summation has the effect of another seed. Rates and lengths
  /// are chosen so that twenty of twenty seeds are healthy.
  @Test(arguments: [
    ("{name: simclr, temperature: 0.2, head: [32, 16], headDeviation: 0.2}", 0.02, 25),
    ("{name: swav, head: [32, 16], prototypes: 20, freeze: 5 steps}", 0.03, 300),
    ("{name: end-to-end, temperature: 0.2, head: [32, 16]}", 0.01, 50),
    ("{name: moco, temperature: 0.2, head: [32, 16], queue: 64, momentum: 0.9}", 0.005, 50),
  ]) func healthyRunsAreLeftAlone(method: String, rate: Double, steps: Int) throws {
    let warnings = try warnings(method, rate: rate, steps: steps)
    #expect(warnings.isEmpty, "\(warnings)")
  }
}
