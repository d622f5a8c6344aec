import Engine
import Foundation
import Shards

/// What a run tells while it trains.
extension Trainer {
  func log(
    _ outcome: Outcome, of stageRun: StageRun, stage index: Int, done: Int, offset: Int, rate: Double,
    gradientNorm: Double, _ progress: RunProgress?
  ) throws {
    let health = stageRun.method.embeddings?.health(communicator)
    guard let metrics, let progress else { return }
    var values: [String: JSONValue] = [
      "stage": .number(index), "epoch": .number(Double(done) / Double(stageRun.plan.stepsPerEpoch)),
      "loss": .number(outcome.loss), "rate": .number(rate),
      "gradient_norm": .number(gradientNorm),
      "weight_norm": .number(
        norm(stageRun.method.encoder.state.parameters.data, stageRun.method.encoder.state.parameters.count)),
    ]
    if let chance = outcome.chance { values["chance"] = .number(chance) }
    for figure in Outcome.Figure.allCases {
      if let value = outcome.figures[figure] { values[figure.key] = .number(value) }
    }
    let method = stageRun.stage.method.value
    var warnings: [String] = []
    if let health {
      values["embedding_deviation"] = .number(health.deviation)
      if let rank = health.effectiveRank { values["effective_rank"] = .number(rank) }
      warnings = health.warnings(outcome, method: method)
    } else if method.classScores != nil {
      warnings = outcome.warnings(method: method)
    }
    // Early steps are at chance by nature.
    if done * 10 < stageRun.plan.totalSteps { warnings = [] }
    if !warnings.isEmpty { values["warnings"] = .list(warnings.map(JSONValue.text)) }
    for warning in warnings { progress.say("Warning at step \(done): \(warning)") }
    var timing = progress.rates.timing
    timing["peak_memory"] = .number(Int(peakResident()))
    try metrics.append(MetricsLine(step: offset + done, values: values, timing: timing))
  }

  /// How well held-out images are told apart: by the method's own classifier, or by kNN.
  /// - Returns: accuracy on the images that are kept for validation; nil where there are none.
  func monitor(_ stageRun: StageRun, _ index: Int, step: Int, _ progress: RunProgress?) throws -> Double? {
    if stageRun.stage.method.value.classScores != nil { return try classify(stageRun, index, step: step, progress) }
    try findNeighbours(stageRun, index, step: step, progress)
    return nil
  }

  /// Accuracy of the method's classifier on images for validation and on held-out images.
  private func classify(_ stageRun: StageRun, _ index: Int, step: Int, _ progress: RunProgress?) throws -> Double? {
    let classes = stageRun.data.classNames
    let extractor = stageRun.extractor
    var values: [String: JSONValue] = ["stage": .number(index)]
    var words: [String] = []
    func judge(_ images: LabelledImages, _ key: String, _ name: String) throws -> Double? {
      if images.isEmpty { return nil }
      let predictions = try Predictions(of: images.set, images.samples, by: extractor)
      let score = Score("top-1", hits: predictions.hits(images.labels), of: images.count)
      values[key] = .number(score.value)
      words.append("\(score.text) \(score.intervalText ?? "") of \(images.count) \(name) images")
      return score.value
    }
    let kept = LabelledImages(stageRun.data, samples: stageRun.labels?.validation ?? [])
    let validation = try judge(kept, "validation_accuracy", "validation")
    if let heldOut = stageRun.heldOut {
      let limit = stageRun.stage.monitor.test
      _ = try judge(LabelledImages(heldOut, classes: classes, limit: limit), "test_accuracy", "held-out")
    }
    if words.isEmpty { return nil }
    progress?.say("step \(step)  accuracy \(words.joined(separator: ", "))")
    try metrics?.append(MetricsLine(step: step, values: values))
    return validation
  }

  /// kNN on held-out images.
  private func findNeighbours(_ stageRun: StageRun, _ index: Int, step: Int, _ progress: RunProgress?) throws {
    guard let heldOut = stageRun.heldOut else { return }
    let data = stageRun.data
    let classes = data.classNames
    let train = LabelledImages(data, classes: classes, limit: stageRun.stage.monitor.train)
    let test = LabelledImages(heldOut, classes: classes, limit: stageRun.stage.monitor.test)
    guard !train.isEmpty, !test.isEmpty else { return }
    let extractor = stageRun.extractor
    let result = try KNN(neighbours: 20).run(
      train: try extractor.table(train, classCount: classes.count),
      test: try extractor.table(test, classCount: classes.count), on: context)
    let found = result.main
    progress?.say(
      "step \(step)  kNN (k = 20) on \(test.count) held-out images: \(found.text) \(found.intervalText ?? "")")
    try metrics?.append(MetricsLine(step: step, values: ["stage": .number(index), "knn_top1": .number(found.value)]))
  }
}
