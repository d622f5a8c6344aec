import Engine
import Files
import Foundation
import Ranks
import Shards

/// How a run ended.
package enum Ending: Equatable { case complete, stopped }

/// The spine: everything between a recipe and a trained encoder, top to bottom.
package final class Trainer {
  let request: PretrainRequest
  let context: Context
  let folder: RunFolder
  let plan: Plan
  /// The resolved recipe.
  let recipe: String
  var communicator: any Communicator { context.communicator }
  var metrics: MetricsWriter?
  private var lock: RunLock?
  private let isAskedToStop: () -> Bool
  let say: (String) -> Void

  /// Resolves and checks all stages; nothing is written.
  /// - Parameters:
  ///   - isAskedToStop: whether this rank was asked to end after the present step.
  ///   - say: prints a line; called on the root alone.
  package init(
    _ request: PretrainRequest, _ context: Context,
    isAskedToStop: @escaping () -> Bool = { StopSignal.number != nil },
    say: @escaping (String) -> Void = { Output.line($0) }
  ) throws {
    self.request = request
    self.context = context
    self.isAskedToStop = isAskedToStop
    folder = RunFolder(request.run)
    plan = try Plan(request, context)
    recipe = try request.recipe.yaml
    let isRoot = context.communicator.isRoot
    self.say = { if isRoot { say($0) } }
  }

  /// A folder that was packed with `--split` holds `train` and `test`.
  package static func paths(_ data: String, _ test: String?) -> (train: String, test: String?) {
    let files = FileManager.default
    guard files.fileExists(atPath: data + "/train") else { return (data, test) }
    return (data + "/train", test ?? (files.fileExists(atPath: data + "/test") ? data + "/test" : nil))
  }

  // MARK: The run

  package func run() throws -> Ending {
    try enterFolder()
    let resumed = try findCheckpoint()
    let first = try position(after: resumed)
    tellPlan()
    try communicator.onRoot { try folder.refuseEditedRecipe(besides: [recipe, resumed?.recipe ?? recipe]) }
    if let resumed, first.stage == plan.stages.count {
      try finish(resumed)
      return .complete
    }
    // What was told after the checkpoint, or by a run that ended before its first one, is told anew.
    if resumed == nil { try rewind(to: 0) }
    // A run that was stopped after the last step of a stage has not judged it.
    for planned in plan.stages[..<first.stage] { try judge(planned) }
    for planned in plan.stages[first.stage...] {
      let ending = try run(planned, from: planned.index == first.stage ? first.step : 0, resumed)
      // Nothing that takes long may follow a signal: the job's time is nearly over.
      if ending == .stopped { return .stopped }
    }
    try communicator.onRoot { try RunFolder.write("", to: folder.complete) }
    try report()
    return .complete
  }

  /// One stage, which is released before the next one is made.
  private func run(_ planned: Plan.Planned, from step: Int, _ resumed: Manifest?) throws -> Ending {
    let stageRun = try plan.make(planned.index, context)
    let offset = plan.steps(before: planned.index)
    // Whoever reads it verifies it: another checkpoint would make another run of what follows.
    func end(of stage: Int) throws -> String {
      let best = try Checkpoint.best(folder, stage: stage, communicator)
      return folder.checkpoints + "/" + Checkpoint.name(step: best?.step ?? plan.steps(before: stage + 1))
    }
    try stageRun.loadTeachers(planned.teachers, communicator, checkpoint: end)
    for teacher in planned.teachers { say("Stage \(planned.stage.name) asks the network of \(teacher.source)") }
    if let resumed, resumed.stage == planned.index {
      stageRun.method.initialise()
      try resume(stageRun, resumed)
    } else {
      if let resumed, resumed.step == offset { try resumeBetween(planned, resumed) }
      let source = try stageRun.start(from: planned.start, communicator, checkpoint: end)
      let parts = planned.stage.start.carry.joined(separator: ", ")
      if let source { say("Stage \(planned.stage.name) starts with \(parts) of \(source)") }
    }
    try introduce(stageRun, index: planned.index, from: step)
    let ending = try train(stageRun, index: planned.index, from: step, offset: offset)
    if ending == .complete { try judge(planned) }
    return ending
  }

  /// Makes the folder this run's: refuses one that is not, and sets aside what is to be replaced.
  private func enterFolder() throws {
    try communicator.onRoot {
      try folder.refuseForeignFiles(recipe: recipe)
      try folder.make()
      lock = try RunLock(folder)
      guard request.restarts, let aside = try folder.setAside() else { return }
      say("Starting over; the earlier run was moved to \(aside)")
      try folder.make()
    }
  }

  /// The page that shows what there is.
  private func report() throws {
    try communicator.onRoot {
      try Exhibits.refresh(folder.path, data: plan.stages[plan.stages.count - 1].data)
      try Report.write(try ReportContent(run: folder.path), to: folder.report)
    }
    say("The report is \(folder.report)")
  }

  /// The run had reached its length already.
  private func finish(_ manifest: Manifest) throws {
    if folder.isComplete {
      say("The run in \(folder.path) is complete: \(manifest.step) steps. To go on, lengthen it: --set length=\"…\"")
      return
    }
    // It was killed between its last checkpoint and its end.
    try rewind(to: manifest.step)
    for planned in plan.stages { try judge(planned) }
    try communicator.onRoot { try RunFolder.write("", to: folder.complete) }
    try report()
  }

  /// One stage, step by step.
  private func train(_ stageRun: StageRun, index: Int, from first: Int, offset: Int) throws -> Ending {
    let stage = stageRun.stage
    let plan = stageRun.plan
    let loader = try stageRun.loader(from: first, threads: request.loaderThreads)
    if communicator.isRoot { metrics = try MetricsWriter(path: folder.metrics) }
    let progress = communicator.isRoot ? RunProgress(from: first, to: plan.totalSteps) : nil
    defer { progress?.finish() }
    let every = (
      log: max(1, plan.steps(stage.log)), checkpoint: max(1, plan.steps(stage.checkpoint.every)),
      monitor: plan.steps(stage.monitor.every)
    )
    var clock = Clock(minutes: stage.checkpoint.minutes)
    var views = 0
    var best = try Checkpoint.best(folder, stage: index, communicator)?.validation ?? -1

    for step in first..<plan.totalSteps {
      // Data.
      let batch = try loader.next()
      let input = stageRun.input(batch)
      views += batch.globalCount * stage.views.reduce(0) { $0 + $1.count }

      // Gradients, summed over ranks, and looked at before they change anything.
      let outcome = stageRun.gradients(input)
      let gradientNorm = stageRun.gradientNorm
      guard outcome.loss.isFinite, gradientNorm.isFinite else {
        throw diagnose(stageRun, input, batch, outcome, gradientNorm, done: offset + step)
      }
      loader.release(batch)

      // Update, and only then what follows the parameters.
      let rate = stageRun.update(step: step)

      // What is told, saved, and agreed on.
      let done = step + 1
      let isLast = done == plan.totalSteps
      let isLogged = done % every.log == 0 || done == 1 || isLast
      progress?.advance(
        .init(
          step: done, epoch: Double(done) / Double(plan.stepsPerEpoch), loss: outcome.loss, rate: rate, views: views,
          secondsWaited: loader.secondsWaited, secondsCommunicating: communicator.times?.seconds ?? 0),
        logged: isLogged)
      if isLogged {
        try log(
          outcome, of: stageRun, stage: index, done: done, offset: offset, rate: rate, gradientNorm: gradientNorm,
          progress)
      }
      var validation: Double?
      if every.monitor > 0 && done % every.monitor == 0 || isLast {
        validation = try monitor(stageRun, index, step: offset + done, progress)
      }
      let isBest = validation ?? -1 > best
      best = max(best, validation ?? -1)
      let (stop, isDue) = agree(clock)
      if isLast || stop || isDue || isBest || done % every.checkpoint == 0 {
        try save(stageRun, index: index, done: done, validation: validation)
        clock.restart()
      }
      if stop && !(isLast && index == self.plan.stages.count - 1) {
        say("Stopped on a signal after step \(done) of \(plan.totalSteps); the same command goes on from there.")
        return .stopped
      }
    }
    return .complete
  }

  /// Minutes since the last checkpoint, by the root's clock.
  private struct Clock {
    let minutes: Double
    private var start = ContinuousClock.now
    init(minutes: Double) { self.minutes = minutes }
    var isDue: Bool { (ContinuousClock.now - start).seconds > minutes * 60 }
    mutating func restart() { start = .now }
  }

  /// All ranks stop after the same step, whichever of them a signal has reached.
  private func agree(_ clock: Clock) -> (stop: Bool, isDue: Bool) {
    let mine = (isAskedToStop() ? 2 : 0) | (communicator.isRoot && clock.isDue ? 1 : 0)
    let all = communicator.allReduce(mine, .max)
    return (all >= 2, all >= 1)
  }
}
