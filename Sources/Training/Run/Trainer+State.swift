import CZlib
import Engine
import Foundation
import Shards

/// What a run keeps: checkpoints, and how it goes on from one.
extension Trainer {
  func save(_ stageRun: StageRun, index: Int, done: Int) throws {
    try refuseWild(stageRun, done: done)
    try compareReplicas(stageRun, done: done)
    try metrics?.synchronize()
    let manifest = Manifest(
      stage: index, step: done, recipe: try request.recipe.yaml, data: data.path,
      dataFingerprint: String(data.fingerprint, radix: 16),
      images: data.count, encoder: stageRun.method.encoder.name, channels: data.channels, input: stageRun.encoderInput,
      fingerprint: Launch.fingerprint(context))
    try Checkpoint.write(stageRun.method.saved, manifest, in: folder, keep: stageRun.stage.checkpoint.keep, communicator)
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
        "after step \(done) the ranks hold different weights or other state; nothing was saved: check the machines' memory, and start again from the last checkpoint"
      )
    }
  }

  /// The newest whole checkpoint, which all ranks agree on.
  func findCheckpoint() throws -> Manifest? {
    let (manifest, damaged) = try Checkpoint.newest(folder, communicator)
    for reason in damaged { say("Passed over: \(reason)") }
    return manifest
  }

  /// Takes back what was told after a step.
  func rewind(to step: Int) throws {
    _ = try communicator.onRoot {
      try MetricsFile.truncate(folder.metrics, after: step)
      if FileManager.default.fileExists(atPath: folder.complete) {
        try FileManager.default.removeItem(atPath: folder.complete)
      }
      return ""
    }
  }

  func resume(_ stageRun: StageRun, _ manifest: Manifest) throws {
    if manifest.dataFingerprint != String(data.fingerprint, radix: 16), !request.force {
      throw RunError(
        "run \(folder.path) was trained on other data (\(manifest.data), \(manifest.images) images); choose another --run, or --force"
      )
    }
    let changes = try RecipeChanges.between(manifest.recipe, request.recipe.yaml)
    for change in changes { say("Changed since the checkpoint: \(change)") }
    let now = Launch.fingerprint(context)
    let others = now.keys.sorted().filter { manifest.fingerprint[$0] != now[$0] }
    for key in others { say("Changed since the checkpoint: \(key) \(manifest.fingerprint[key] ?? "?") → \(now[key]!)") }
    say(
      "Resuming \(folder.path) after step \(manifest.step): \(others.isEmpty && changes.isEmpty ? "bit for bit" : "equal within rounding where nothing else changed")."
    )
    try communicator.onEvery {
      try Checkpoint.read(stageRun.method.saved, from: folder.checkpoints + "/" + Checkpoint.name(step: manifest.step))
    }
    stageRun.keep(manifest.input)
    try rewind(to: manifest.step)
  }

  /// The encoder of one stage starts the next, parameter by parameter.
  func carry(from old: any Method, to new: any Method) throws {
    do {
      try new.encoder.state.copy([.encoder], from: old.encoder.state)
    } catch {
      throw RecipeError("stages: the encoder must be the one of the stage before: \(error)")
    }
    new.adoptEncoder()
  }
}
