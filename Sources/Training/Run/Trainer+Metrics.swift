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
    if let health {
      values["embedding_deviation"] = .number(health.deviation)
      if let rank = health.effectiveRank { values["effective_rank"] = .number(rank) }
      // Early steps are at chance by nature.
      let warnings =
        done * 10 < stageRun.plan.totalSteps
        ? []
        : health.warnings(outcome, method: stageRun.stage.method.value)
      if !warnings.isEmpty { values["warnings"] = .list(warnings.map(JSONValue.text)) }
      for warning in warnings { progress.say("Warning at step \(done): \(warning)") }
    }
    var timing = progress.rates.timing
    timing["peak_memory"] = .number(Int(peakResident()))
    try metrics.append(MetricsLine(step: offset + done, values: values, timing: timing))
  }

  /// kNN on held-out images.
  func monitor(_ stageRun: StageRun, _ index: Int, step: Int, _ progress: RunProgress?) throws {
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
