import Engine
import Foundation
import Shards

/// What a run says before it trains, and when it goes wrong.
extension Trainer {
  /// Says what the stages of a run will take, where there are several.
  func tellPlan() {
    if plan.stages.count == 1 { return }
    for planned in plan.stages {
      let cost = planned.cost
      let time = cost.seconds.map { ", about \(StageCost.words($0))" } ?? ""
      say(
        "Stage \(planned.index) \(planned.stage.name): \(type(of: planned.stage.method.value).name) on "
          + "\(planned.data.path), starts from \(planned.stage.start), \(cost.steps) steps\(time), "
          + "\(megabytes(cost.memory)) MiB a rank, checkpoints of \(megabytes(cost.checkpoint)) MiB")
      for notice in planned.notices { say("Note: stage \(planned.stage.name): \(notice)") }
    }
    let seconds = plan.stages.compactMap(\.cost.seconds).reduce(0, +)
    say(
      "All stages: about \(StageCost.words(seconds)) of arithmetic, \(megabytes(plan.diskBytes)) MiB of disk at most")
  }

  /// Prints the recipe and the facts of a stage, and writes both into the run's folder.
  /// - Parameter done: steps of the stage.
  func introduce(_ stageRun: StageRun, index: Int, from done: Int) throws {
    let isOnly = plan.stages.count == 1
    let stage = isOnly ? "" : ", stage \(index): \(stageRun.stage.name)"
    let lines = recipe.split(separator: "\n").map { "  " + $0 }
    say("Recipe \(request.recipe.name)\(stage)\n" + lines.joined(separator: "\n"))
    let facts = RunFacts(
      stageRun, plan.stages[index].cost, index: isOnly ? nil : index, done: done, recipe: recipe, folder: folder,
      context)
    for (name, text) in facts.table { say(name.padding(toLength: 9, withPad: " ", startingAt: 0) + text) }
    // Those of several stages have been told with the plan.
    for notice in (isOnly ? stageRun.notices : []) + Launch.advice + missingArithmetic { say("Note: \(notice)") }
    try communicator.onRoot {
      try writeLabels(stageRun)
      try facts.write(to: folder)
      try RunFolder.write(recipe, to: folder.recipe)
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
      (try? Checkpoint.list(folder))?.last.map { "the checkpoint of step \($0) is untouched" }
      ?? "there is no checkpoint yet"
    let what = "step \(done + 1): loss \(outcome.loss), gradient norm \(gradientNorm)"
    guard first != Int.max else {
      return RunError("\(what); run again, every layer was finite: check the machines' memory; \(kept)")
    }
    // The owning rank broadcasts the layer's name, so that every rank can report it.
    let owner = first % communicator.size
    let samples = batch.samples.prefix(8).map(String.init).joined(separator: ", ")
    let mineInWords =
      mine == first ? "\(watch.found!.layer) on rank \(owner), whose images are samples \(samples)…" : nil
    let found = communicator.broadcast(mineInWords.map { Array($0.utf8) }, from: owner)
    return RunError(
      "\(what): the first value that is not finite came out of \(String(decoding: found, as: UTF8.self)); "
        + "\(kept): start again with a lower rate or a longer warm-up")
  }
}
