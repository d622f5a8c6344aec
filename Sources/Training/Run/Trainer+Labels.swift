import Engine
import Foundation
import Shards

/// What a run does for methods that learn from labels.
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

  /// Judges the classifier that a stage came to on all held-out images, for the report. All ranks make this call.
  func judge(_ planned: Plan.Planned) throws {
    guard planned.stage.method.value.classScores != nil, let heldOut = planned.heldOut else { return }
    let images = LabelledImages(heldOut, classes: planned.data.classNames)
    let encoder = try FrozenEncoder(run: folder.path, .stage(planned.stage.name), communicator)
    guard let tap = encoder.classScores, !images.isEmpty else { return }
    context.arena.unseal()
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
