import Engine
import Foundation
import Ranks
import Shards

/// What a run says before it trains, and when it goes wrong.
extension Trainer {
  func introduce(_ stageRun: StageRun, index: Int, from first: Int) throws {
    let stage = stageRun.stage
    let encoder = stageRun.method.encoder
    let ranks = communicator.size
    let yaml = try request.recipe.yaml
    say(
      "Recipe \(request.recipe.name)\(request.recipe.stages.count > 1 ? ", stage \(index): \(stage.name)" : "")\n"
        + yaml.split(separator: "\n").map { "  " + $0 }.joined(separator: "\n"))
    let chance =
      stageRun.candidates.map {
        "negatives per anchor: \($0 - 1); loss at chance: \(String(format: "%.3f", stageRun.chance ?? 0))"
      } ?? "no negatives"
    let facts: [(String, String)] = [
      (
        "data",
        "\(data.path): \(data.count) images, \(data.channels) channel\(data.channels == 1 ? "" : "s"), fingerprint \(String(data.fingerprint, radix: 16))"
      ),
      (
        "encoder",
        "\(stage.encoder.name.rawValue), width \(stage.encoder.width): \(encoder.network.parameters.parameterCount(of: .encoder)) parameters, \(encoder.network.encoder.options.features) features"
      ),
      (
        "ranks",
        "\(ranks) × \(context.team.count) thread\(context.team.count == 1 ? "" : "s")\(communicator.takesTurns ? " in turns at their cores" : "") on \(communicator.host)\(ranks > communicator.ranksOnNode ? " and others" : ""), \(Launch.fingerprint(context)["processor"]!), OpenBLAS \(Launch.fingerprint(context)["kernels"]!), \(MPICommunicator.library)"
      ),
      (
        "batch",
        "\(stage.batch) images, \(stageRun.shares(step: 0).min()!) to \(stageRun.shares(step: 0).max()!) a rank; \(chance)"
      ),
      (
        "rate",
        "\(stage.optimizer.rate) × \(stage.optimizer.scaling.rawValue) scaling \(String(format: "%.4g", stageRun.rateScale)) = \(String(format: "%.4g", stageRun.rate))"
      ),
      (
        "length",
        "\(stageRun.plan.totalSteps) steps of \(stageRun.plan.stepsPerEpoch) an epoch\(first > 0 ? ", \(first) done" : "")"
      ),
      (
        "memory",
        "\(megabytes(stageRun.memory.arena + stageRun.memory.state + stageRun.memory.loader)) MiB a rank: \(megabytes(stageRun.memory.arena)) activations, \(megabytes(stageRun.memory.state)) state, \(megabytes(stageRun.memory.loader)) batches ahead"
      ),
      (
        "disk",
        "\(megabytes(stageRun.checkpointBytes * (stage.checkpoint.keep + 1))) MiB for \(stage.checkpoint.keep) checkpoints in \(folder.path)"
      ),
    ]
    for (name, text) in facts { say(name.padding(toLength: 9, withPad: " ", startingAt: 0) + text) }
    for notice in stageRun.notices + Launch.advice + missingArithmetic { say("Note: \(notice)") }
    _ = try communicator.onRoot {
      try RunFolder.write(yaml, to: folder.recipe)
      let object = JSONValue.object(Dictionary(uniqueKeysWithValues: facts.map { ($0.0, JSONValue.text($0.1)) }))
      try RunFolder.write(object.json + "\n", to: folder.facts)
      return ""
    }
  }

  /// Runs the bad step again, layer by layer, and names where it went wrong.
  func diagnose(
    _ stageRun: StageRun, _ input: MethodInput, _ batch: Batch, _ outcome: Outcome, _ gradientNorm: Double,
    done: Int
  ) -> RunError {
    let watch = Watch()
    context.watch = watch
    defer { context.watch = nil }
    _ = stageRun.gradients(input)
    // The earliest layer, and of its ranks the lowest.
    let mine = watch.found.map { $0.position * communicator.size + communicator.rank } ?? Int.max
    let first = communicator.allReduce(mine, .min)
    let kept =
      Checkpoint.list(folder).last.map { "the checkpoint of step \($0) is untouched" } ?? "there is no checkpoint yet"
    let what = "step \(done + 1): loss \(outcome.loss), gradient norm \(gradientNorm)"
    guard first != Int.max else {
      return RunError("\(what); run again, every layer was finite: check the machines' memory; \(kept)")
    }
    // The rank that knows tells all, so that whoever speaks first names the layer.
    let owner = first % communicator.size
    let samples = batch.samples.prefix(8).map(String.init).joined(separator: ", ")
    let found = communicator.broadcast(
      mine == first ? Array("\(watch.found!.layer) on rank \(owner), whose images are samples \(samples)…".utf8) : nil,
      from: owner)
    return RunError(
      "\(what): the first value that is not finite came out of \(String(decoding: found, as: UTF8.self)); "
        + "\(kept): start again with a lower rate or a longer warm-up")
  }
}
