import Engine
import Files
import Foundation
import Ranks
import Shards

/// What a user asks for with `apus pretrain`.
package struct PretrainRequest: Sendable {
  package var recipe: Recipe
  package var data: String
  /// Held-out images; nil for the data folder's own `test`, if there is one.
  package var test: String?
  package var run: String
  /// An encoder to start from, safetensors.
  package var weights: String?
  package var loaderThreads = 1
  /// Goes on although recipe or data are others than the run's.
  package var force = false

  package init(recipe: Recipe, data: String, run: String) {
    self.recipe = recipe
    self.data = data
    self.run = run
  }
}

/// How a run ended.
package enum Ending: Equatable { case complete, stopped }

/// The spine: everything between a recipe and a trained encoder, top to bottom.
package final class Trainer {
  let request: PretrainRequest
  let context: Context
  let folder: RunFolder
  let data: DataSet
  let heldOut: DataSet?
  var communicator: any Communicator { context.communicator }
  var metrics: MetricsWriter?
  private var lock: RunLock?
  let say: (String) -> Void

  package init(_ request: PretrainRequest, _ context: Context) throws {
    self.request = request
    self.context = context
    folder = RunFolder(request.run)
    let (train, test) = Trainer.paths(request.data, request.test)
    data = try DataSet(at: train)
    heldOut = try test.map { try DataSet(at: $0) }
    let isRoot = context.communicator.isRoot
    say = { if isRoot { Output.line($0) } }
  }

  /// A folder that was packed with `--split` holds `train` and `test`.
  package static func paths(_ data: String, _ test: String?) -> (train: String, test: String?) {
    let files = FileManager.default
    guard files.fileExists(atPath: data + "/train") else { return (data, test) }
    return (data + "/train", test ?? (files.fileExists(atPath: data + "/test") ? data + "/test" : nil))
  }

  // MARK: The run

  package func run() throws -> Ending {
    _ = try communicator.onRoot {
      try folder.make()
      lock = try RunLock(folder)
      return ""
    }
    let resumed = try findCheckpoint()
    // What a run told that ended before its first checkpoint is told anew.
    if resumed == nil { try rewind(to: 0) }
    var previous: (any Method)?
    var offset = 0
    for (index, stage) in request.recipe.stages.enumerated() {
      let stageRun = try StageRun(stage, data: data, heldOut: heldOut, seed: request.recipe.seed, index: index, context)
      defer {
        offset += stageRun.plan.totalSteps
        previous = stageRun.method
      }
      if let resumed, resumed.stage > index { continue }
      try stageRun.checkRoom(folder, ranksOnNode: communicator.ranksOnNode)
      stageRun.method.initialise()
      var first = 0
      if let resumed, resumed.stage == index {
        first = resumed.step - offset
        if isFinished(index, first, stageRun) { return .complete }
        try resume(stageRun, resumed)
      } else if let previous {
        try carry(from: previous, to: stageRun.method)
      } else if let weights = request.weights {
        try Weights.load(weights, into: stageRun.method.encoder.state)
        stageRun.method.adoptEncoder()
      }
      if first > stageRun.plan.totalSteps {
        throw RunError(
          "run \(folder.path) has done \(first) steps, the recipe's length is \(stageRun.plan.totalSteps): lengthen it or choose another --run"
        )
      }
      try introduce(stageRun, index: index, from: first)
      let ending = try train(stageRun, index: index, from: first, offset: offset)
      if ending == .stopped {
        try report()
        return .stopped
      }
    }
    _ = try communicator.onRoot {
      try RunFolder.write("", to: folder.complete)
      return ""
    }
    try report()
    return .complete
  }

  /// The page that shows what there is.
  private func report() throws {
    _ = try communicator.onRoot {
      try Exhibits.refresh(folder.path, data: data)
      try Report.write(try ReportContent(run: folder.path), to: folder.report)
      return ""
    }
    say("The report is \(folder.report)")
  }

  private func isFinished(_ index: Int, _ first: Int, _ stageRun: StageRun) -> Bool {
    guard index == request.recipe.stages.count - 1, first == stageRun.plan.totalSteps, folder.isComplete else {
      return false
    }
    say("The run in \(folder.path) is complete: \(first) steps. To go on, lengthen it: --set length=\"…\"")
    return true
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
      if isLogged { try log(stageRun, index, outcome, done: done, offset: offset, rate: rate, gradientNorm, progress) }
      if every.monitor > 0 && done % every.monitor == 0 || isLast {
        try monitor(stageRun, index, step: offset + done, progress)
      }
      let (stop, isDue) = agree(clock)
      if isLast || stop || isDue || done % every.checkpoint == 0 {
        try save(stageRun, index: index, done: offset + done)
        clock.restart()
      }
      if stop && !isLast {
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
    let mine = (StopSignal.number == nil ? 0 : 2) | (communicator.isRoot && clock.isDue ? 1 : 0)
    let all = communicator.allReduce(mine, .max)
    return (all >= 2, all >= 1)
  }
}
