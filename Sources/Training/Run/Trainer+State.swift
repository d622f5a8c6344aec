import CZlib
import Engine
import Foundation
import Ranks
import Shards

/// What a run keeps: checkpoints, and how it goes on from one.
extension Trainer {
  /// - Parameters:
  ///   - done: steps of the stage.
  ///   - validation: accuracy on the images for validation, where it was measured at this step.
  func save(_ stageRun: StageRun, index: Int, done: Int, validation: Double?) throws {
    let stageSteps = plan.stages[..<index].map(\.steps) + [done]
    try refuseWild(stageRun, done: stageSteps.reduce(0, +))
    try compareReplicas(stageRun, done: stageSteps.reduce(0, +))
    try metrics?.synchronize()
    let data = stageRun.data
    let sources = stageRun.extractor.sources
    let further = sources.dropFirst().map { Manifest.FurtherEncoder(name: $0.name, input: $0.input) }
    let teachers = stageRun.teacherChecksums
    let manifest = Manifest(
      stageSteps: stageSteps, recipe: recipe, data: data.path, dataFingerprint: String(data.fingerprint, radix: 16),
      images: data.count, encoder: sources[0].name, channels: sources[0].input.channels, input: sources[0].input,
      further: further.isEmpty ? nil : further, classNames: data.classNames,
      teachers: teachers.isEmpty ? nil : teachers, labels: stageRun.labels?.checksum, validation: validation,
      fingerprint: Launch.fingerprint(context))
    let keep = stageRun.stage.checkpoint.keep
    try Checkpoint.write(stageRun.method.saved, manifest, in: folder, keep: keep, communicator)
  }

  /// An update can leave the range of numbers by itself; the next step would say so, but a checkpoint must not hold it.
  private func refuseWild(_ stageRun: StageRun, done: Int) throws {
    func refusal(_ name: String) -> RunError {
      RunError(
        "after step \(done) the weights of \(name) are not finite; nothing was saved: "
          + "start again with a lower rate or a longer warm-up")
    }
    try communicator.onEvery {
      for trained in stageRun.method.trained {
        let parameters = trained.state.parameters
        for entry in parameters.layout.entries where !norm(parameters[entry.slice], entry.slice.count).isFinite {
          throw refusal(entry.name)
        }
      }
      for array in stageRun.method.state {
        guard case .floats(let values) = array.values, !values.isEmpty else { continue }
        if !norm(values.baseAddress!, values.count).isFinite { throw refusal(array.name) }
      }
    }
  }

  /// All ranks must hold the same bits; if not, the machine or the MPI library is at fault, and nothing is saved.
  func compareReplicas(_ stageRun: StageRun, done: Int) throws {
    let replicated = stageRun.method.saved.filter { $0.rows == nil }
    let mine = Int(replicated.reduce(0) { czlib_crc32($0, $1.bytes.baseAddress, $1.bytes.count) })
    guard communicator.allReduce(mine, .min) == communicator.allReduce(mine, .max) else {
      throw RunError(
        "after step \(done) the ranks hold different weights or other state; nothing was saved: "
          + "check the machines' memory, and start again from the last checkpoint")
    }
  }

  // MARK: Going on

  /// The newest whole checkpoint, which all ranks agree on; nil for a new run.
  func findCheckpoint() throws -> Manifest? {
    let (manifest, damaged) = try Checkpoint.newest(folder, communicator)
    for reason in damaged { say("Passed over: \(reason)") }
    let isComplete = try communicator.fromRoot { folder.isComplete ? "complete" : "" } == "complete"
    guard manifest != nil || !isComplete else {
      throw RunError(
        "run \(folder.path) is complete, but it has no checkpoints any more; nothing was changed: "
          + "give another --run, or train from the start with --restart")
    }
    if manifest == nil { try refuseLostCheckpoints() }
    return manifest
  }

  /// Refuses to start over what has gone further than its first checkpoint.
  private func refuseLostCheckpoints() throws {
    let text = try communicator.fromRoot {
      guard FileManager.default.fileExists(atPath: folder.metrics) else { return "0" }
      return "\(try MetricsFile.last(folder.metrics) { _ in true }?.step ?? 0)"
    }
    guard let done = Int(text), done > plan.stages[0].firstCheckpoint else { return }
    throw RunError(
      "run \(folder.path) was trained for \(done) steps or more, but there is no checkpoint in \(folder.checkpoints); "
        + "nothing was changed: put them back, give another --run, or train from the start with --restart")
  }

  /// Where the run goes on: a stage and steps of it, or the number of stages where it has reached its end.
  /// - Throws: `RunError` where the recipe is another one now; nothing has been changed by then.
  func position(after manifest: Manifest?) throws -> (stage: Int, step: Int) {
    guard let manifest else { return (0, 0) }
    guard let steps = manifest.knownStageSteps else {
      throw RunError(
        "run \(folder.path) has several stages and was trained by an earlier build, which did not write down how long "
          + "each was: give another --run")
    }
    guard manifest.stage < plan.stages.count else {
      throw RunError(
        "run \(folder.path) is in stage \(manifest.stage + 1), and the recipe has only \(plan.stages.count): "
          + "give the recipe that the run began with, or another --run")
    }
    for (planned, done) in zip(plan.stages, steps.dropLast()) where planned.steps != done {
      throw RunError(
        "stage \(planned.stage.name) of run \(folder.path) ended after \(done) steps, and later stages began from it; "
          + "its length is \(planned.steps) now: set it back to \(done) steps, or give another --run")
    }
    let planned = plan.stages[manifest.stage]
    let done = steps[steps.count - 1]
    guard done <= planned.steps else {
      let name = plan.stages.count == 1 ? "" : " of stage \(planned.stage.name)"
      throw RunError(
        "run \(folder.path) has done \(done) steps\(name), the recipe's length is \(planned.steps): "
          + "lengthen it or choose another --run")
    }
    try refuseOtherStages(manifest)
    try refuseOtherDataOfStages(before: manifest)
    try refuseOtherData(planned, manifest)
    if done < planned.steps { return (manifest.stage, done) }
    if manifest.stage == plan.stages.count - 1 { try refuseOtherRecipe(manifest) }
    return (manifest.stage + 1, 0)
  }

  /// A stage that ended would have led to other weights by another recipe, and the present one began from it.
  private func refuseOtherStages(_ manifest: Manifest) throws {
    if request.force { return }
    let old = try Recipe(yaml: manifest.recipe, from: "the run's recipe")
    for index in 0..<min(manifest.stage, old.stages.count) {
      let changes = try RecipeChanges.between(old.alone(index).yaml, request.recipe.alone(index).yaml)
        .filter(\.matters)
      guard !changes.isEmpty else { continue }
      throw RunError(
        "stage \(old.stages[index].name) of run \(folder.path) has ended, and later stages began from it, but its "
          + "recipe is another one now: \(changes.map(\.description).joined(separator: "; ")). Nothing was changed: "
          + "set it back, choose another --run, train anew with --restart, or go on by --force")
    }
  }

  /// The present stage began from what the earlier ones learned from their data.
  private func refuseOtherDataOfStages(before manifest: Manifest) throws {
    try communicator.onRoot {
      let kept = try Checkpoint.manifests(folder)
      for planned in plan.stages[..<manifest.stage] {
        guard let earlier = kept.last(where: { $0.stage == planned.index }) else { continue }
        do { try refuseOtherData(planned, earlier) } catch {
          throw RunError("stage \(planned.stage.name) has ended: \(error)")
        }
      }
    }
  }

  private func refuseOtherData(_ planned: Plan.Planned, _ manifest: Manifest) throws {
    guard manifest.dataFingerprint != String(planned.data.fingerprint, radix: 16), !request.force else { return }
    throw RunError(
      "run \(folder.path) was trained on other data (\(manifest.data), \(manifest.images) images) than "
        + "\(planned.data.path) (\(planned.data.count) images); choose another --run, or --force")
  }

  /// A finished run is not what was asked for where the recipe would have led to other weights.
  private func refuseOtherRecipe(_ manifest: Manifest) throws {
    let changes = try RecipeChanges.between(manifest.recipe, recipe).filter(\.matters)
    guard !changes.isEmpty else { return }
    throw RunError(
      "the run in \(folder.path) is complete, but it was trained by another recipe: "
        + changes.map(\.description).joined(separator: "; ")
        + ". Nothing was changed: choose another --run, train anew with --restart, or lengthen it to go on")
  }

  /// Takes back what was told after a step.
  func rewind(to step: Int) throws {
    try communicator.onRoot {
      try Checkpoint.setDamagedAside(folder, after: step)
      try MetricsFile.truncate(folder.metrics, after: step)
      if FileManager.default.fileExists(atPath: folder.complete) {
        try FileManager.default.removeItem(atPath: folder.complete)
      }
    }
  }

  /// Goes on in the middle of a stage.
  func resume(_ stageRun: StageRun, _ manifest: Manifest) throws {
    let isSame = try tellChanges(since: manifest)
    try tellJump(stageRun, manifest)
    say(
      "Resuming \(folder.path) after step \(manifest.step): "
        + (isSame ? "bit for bit" : "equal within rounding where nothing else changed") + ".")
    let path = folder.checkpoints + "/" + Checkpoint.name(step: manifest.step)
    try communicator.onEvery { try Checkpoint.read(stageRun.method.saved, from: path) }
    stageRun.keep(manifest.inputs)
    try refuseOtherTeachers(stageRun, manifest)
    try refuseOtherLabels(stageRun, manifest)
    try rewind(to: manifest.step)
  }

  /// A method that went on with another teacher would not end as it had begun.
  private func refuseOtherTeachers(_ stageRun: StageRun, _ manifest: Manifest) throws {
    guard let before = manifest.teachers, before != stageRun.teacherChecksums, !request.force else {
      return
    }
    let sources = stageRun.stage.method.value.teachers.map(\.description).joined(separator: ", ")
    throw RunError(
      "run \(folder.path) was trained with a teacher of other weights than \(sources) holds now; nothing was changed: "
        + "put those weights back, choose another --run, or go on with these by --force")
  }

  /// A file of labels may have been edited.
  private func refuseOtherLabels(_ stageRun: StageRun, _ manifest: Manifest) throws {
    guard let before = manifest.labels, before != stageRun.labels?.checksum, !request.force else { return }
    throw RunError(
      "run \(folder.path) was trained with the labels of other images than data.labels chooses now; nothing was "
        + "changed: choose as before (they are listed in \(folder.labels)), choose another --run, or go on with these "
        + "by --force")
  }

  /// Goes on at the end of one stage with the next.
  func resumeBetween(_ planned: Plan.Planned, _ manifest: Manifest) throws {
    _ = try tellChanges(since: manifest)
    say("Resuming \(folder.path) after step \(manifest.step), at the start of stage \(planned.stage.name).")
    try rewind(to: manifest.step)
  }

  /// Says what differs from the time of a checkpoint: recipe, machine, ranks.
  /// - Returns: whether nothing does.
  private func tellChanges(since manifest: Manifest) throws -> Bool {
    let changes = try RecipeChanges.between(manifest.recipe, recipe)
    for change in changes { say("Changed since the checkpoint: \(change)") }
    let now = Launch.fingerprint(context)
    let others = now.keys.sorted().filter { manifest.fingerprint[$0] != now[$0] }
    for key in others {
      say("Changed since the checkpoint: \(key) \(manifest.fingerprint[key] ?? "?") → \(now[key]!)")
    }
    return changes.isEmpty && others.isEmpty
  }

  /// Epochs and the schedule are functions of the step, so another batch, data set or length moves both at once.
  private func tellJump(_ stageRun: StageRun, _ manifest: Manifest) throws {
    guard let old = try? Recipe(yaml: manifest.recipe, from: "the run's recipe"),
      old.stages.indices.contains(manifest.stage), let done = manifest.knownStageSteps?.last
    else { return }
    let stage = old.stages[manifest.stage]
    // Labels of other images would have been refused.
    let images = stageRun.labels == nil ? manifest.images : stageRun.images.count
    let order = Order(count: max(1, images), batch: stage.batch, seed: 0, last: stage.data.last)
    guard order.stepsPerEpoch > 0 else { return }
    let plan = RunPlan(stepsPerEpoch: order.stepsPerEpoch, batch: stage.batch, length: stage.length)
    let scale = stage.optimizer.scaling.factor(batch: stage.batch)
    func words(_ plan: RunPlan, _ rate: Double) -> String {
      String(format: "epoch %.2f, rate %.4g", Double(done) / Double(plan.stepsPerEpoch), rate)
    }
    let before = words(
      plan, stage.schedule.rate(step: done, base: stage.optimizer.rate * scale, scale: scale, plan))
    let after = words(stageRun.plan, stageRun.rate(step: done))
    guard before != after else { return }
    say(
      "Note: the run stood at \(before); by the recipe as it is now, step \(done) is \(after), and it goes on from "
        + "there: epochs and the schedule jump")
  }
}
