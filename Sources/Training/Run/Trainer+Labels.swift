import Engine
import Foundation
import Shards

/// What a run does for methods that learn from labels, and for stages that are judged by labels at their end.
extension Trainer {
  /// Writes the images whose labels a stage may see into the run's folder, one key a line, where they are not all. The
  /// files can be given as `data.labels` of another run.
  func writeLabels(_ stageRun: StageRun) throws {
    guard let labels = stageRun.labels, labels.training.count < labels.available else { return }
    let name = stageRun.stage.name.replacing("/", with: "-")
    try FileManager.default.createDirectory(atPath: folder.labels, withIntermediateDirectories: true)
    for (samples, suffix) in [(labels.training, ""), (labels.validation, "-validation")] where !samples.isEmpty {
      let lines = try samples.map { try stageRun.data.key($0) + "\n" }
      try RunFolder.write(lines.joined(), to: folder.labels + "/\(name)\(suffix).txt")
    }
  }

  /// Judges what a stage came to, where that was not done yet: its classifier on all held-out images, and its features
  /// on the data set that the recipe names. All ranks make this call.
  func judge(_ planned: Plan.Planned) throws {
    let hasClassifier = planned.stage.method.value.classScores != nil && planned.heldOut != nil
    guard hasClassifier || planned.judgedOn != nil else { return }
    let encoder = try FrozenEncoder(run: folder.path, .stage(planned.stage.name), communicator)
    let subject = encoder.subject(folder.path)
    let known = try communicator.fromRoot {
      let isClassified = try RunFiles.classifiers(of: folder.path).contains { $0.subject == subject }
      let isEvaluated = try RunFiles.evaluations(of: folder.path).contains { $0.subject == subject }
      return (isClassified ? "c" : "") + (isEvaluated ? "e" : "")
    }
    context.arena.unseal()
    if hasClassifier, !known.contains("c") { try judgeClassifier(planned, encoder) }
    if let sets = planned.judgedOn, !known.contains("e") {
      var comparison = Comparison(encoder, train: sets.train, test: sets.test, context: context)
      comparison.baselines = false
      comparison.skipsUnknown = true
      let outcome = try comparison.run(subject, say)
      try communicator.onRoot { try RunFiles.add(outcome.record, to: folder.path) }
    }
  }

  private func judgeClassifier(_ planned: Plan.Planned, _ encoder: FrozenEncoder) throws {
    guard let heldOut = planned.heldOut, let tap = encoder.classScores else { return }
    let images = LabelledImages(heldOut, classes: planned.data.classNames)
    if images.isEmpty { return }
    let extractor = FeatureExtractor([encoder.sources[0].tapped(at: tap)], context: context)
    let predictions = try Predictions(of: heldOut, images.samples, by: extractor)
    try communicator.onRoot {
      let record = try ClassifierRecord(
        encoder.subject(folder.path), predictions, images, classNames: planned.data.classNames
      ) { try Exhibits.picture(heldOut, $0) }
      try RunFiles.add(record, to: folder.path)
      say(
        "stage \(planned.stage.name), step \(encoder.step): accuracy \(record.accuracy.text) "
          + "\(record.accuracy.intervalText ?? "") of \(images.count) held-out images")
    }
  }
}
