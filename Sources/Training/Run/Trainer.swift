import Engine
import Foundation
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

  package init(recipe: Recipe, data: String, run: String) { (self.recipe, self.data, self.run) = (recipe, data, run) }
}

/// How a run ended.
package enum Ending: Equatable { case complete, stopped }

/// The spine: everything between a recipe and a trained encoder, top to bottom.
package final class Trainer {
  private let request: PretrainRequest
  private let context: Context
  private let folder: RunFolder
  private let data: DataSet
  private let heldOut: DataSet?
  private var communicator: any Communicator { context.communicator }
  private var metrics: MetricsWriter?
  private var say: (String) -> Void

  package init(_ request: PretrainRequest, _ context: Context) throws {
    self.request = request
    self.context = context
    folder = RunFolder(request.run)
    let (train, test) = Trainer.paths(request.data, request.test)
    data = try DataSet(at: train)
    heldOut = try test.map { try DataSet(at: $0) }
    let isRoot = context.communicator.isRoot
    say = { if isRoot { print($0) } }
  }

  /// A folder that was packed with `--split` holds `train` and `test`.
  package static func paths(_ data: String, _ test: String?) -> (train: String, test: String?) {
    let files = FileManager.default
    guard files.fileExists(atPath: data + "/train") else { return (data, test) }
    return (data + "/train", test ?? (files.fileExists(atPath: data + "/test") ? data + "/test" : nil))
  }

  // MARK: The run

  package func run() throws -> Ending {
    _ = try communicator.onRoot { try folder.make(); return "" }
    let resumed = try findCheckpoint()
    // What a run told that ended before its first checkpoint is told anew.
    if resumed == nil { try rewind(to: 0) }
    var previous: (any Method)?, offset = 0
    for (index, stage) in request.recipe.stages.enumerated() {
      let session = try Session(stage, data: data, heldOut: heldOut, seed: request.recipe.seed, index: index, context)
      defer { offset += session.plan.totalSteps; previous = session.method }
      if let resumed, resumed.stage > index { continue }
      try session.checkRoom(folder, ranksOnNode: (communicator as? MPICommunicator)?.ranksOnNode ?? 1)
      session.method.initialise()
      var first = 0
      if let resumed, resumed.stage == index {
        first = resumed.step - offset
        if isFinished(index, first, session) { return .complete }
        try resume(session, resumed)
      } else if let previous {
        try carry(from: previous, to: session.method)
      } else if let weights = request.weights {
        try Weights.load(weights, into: session.method.encoder.state)
        session.method.adoptEncoder()
      }
      if first > session.plan.totalSteps {
        throw RunError("run \(folder.path) has done \(first) steps, the recipe's length is \(session.plan.totalSteps): lengthen it or choose another --run")
      }
      try introduce(session, index: index, from: first)
      let ending = try train(session, index: index, from: first, offset: offset)
      if ending == .stopped { return .stopped }
    }
    _ = try communicator.onRoot { try RunFolder.write("", to: folder.complete); return "" }
    return .complete
  }

  private func isFinished(_ index: Int, _ first: Int, _ session: Session) -> Bool {
    guard index == request.recipe.stages.count - 1, first == session.plan.totalSteps, folder.isComplete else { return false }
    say("The run in \(folder.path) is complete: \(first) steps. To go on, lengthen it: --set length=\"…\"")
    return true
  }

  /// One stage, step by step.
  private func train(_ session: Session, index: Int, from first: Int, offset: Int) throws -> Ending {
    let stage = session.stage, plan = session.plan
    let loader = try session.loader(from: first, threads: request.loaderThreads)
    if communicator.isRoot { metrics = try MetricsWriter(path: folder.metrics) }
    let progress = communicator.isRoot ? RunProgress(from: first, to: plan.totalSteps) : nil
    defer { progress?.finish() }
    let every = (log: max(1, plan.steps(stage.log)), checkpoint: max(1, plan.steps(stage.checkpoint.every)), monitor: plan.steps(stage.monitor.every))
    var clock = Clock(minutes: stage.checkpoint.minutes)
    var views = 0

    for step in first..<plan.totalSteps {
      // Data.
      let batch = try loader.next()
      let input = session.input(batch)
      views += batch.globalCount * stage.views.reduce(0) { $0 + $1.count }

      // Gradients, summed over ranks, and looked at before they change anything.
      let outcome = session.gradients(input), gradientNorm = session.gradientNorm
      guard outcome.loss.isFinite, gradientNorm.isFinite else {
        throw diagnose(session, input, batch, outcome, gradientNorm, done: offset + step)
      }
      loader.release(batch)

      // Update, and only then what follows the parameters.
      let rate = session.update(step: step)

      // What is told, saved, and agreed on.
      let done = step + 1, isLast = done == plan.totalSteps
      let isLogged = done % every.log == 0 || done == 1 || isLast
      progress?.advance(
        .init(
          step: done, epoch: Double(done) / Double(plan.stepsPerEpoch), loss: outcome.loss, rate: rate, views: views,
          secondsWaited: loader.secondsWaited, secondsCommunicating: (communicator as? MPICommunicator)?.seconds ?? 0),
        logged: isLogged)
      if isLogged { try log(session, index, outcome, done: done, offset: offset, rate: rate, gradientNorm, progress) }
      if every.monitor > 0 && done % every.monitor == 0 || isLast { try monitor(session, step: offset + done, progress) }
      let (stop, isDue) = agree(clock)
      if isLast || stop || isDue || done % every.checkpoint == 0 {
        try save(session, index: index, done: offset + done)
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

  // MARK: Metrics

  private func log(_ session: Session, _ index: Int, _ outcome: MethodOutcome, done: Int, offset: Int, rate: Double, _ gradientNorm: Double, _ progress: RunProgress?) throws {
    let health = gatherHealth(session.method), rows = max(1, outcome.statistics.rows)
    guard let metrics, let progress else { return }
    var values: [String: JSONValue] = [
      "stage": .number(index), "epoch": .number(Double(done) / Double(session.plan.stepsPerEpoch)),
      "loss": .number(outcome.loss), "rate": .number(rate), "candidates": .number(outcome.candidates),
      "top1": .number(outcome.statistics.correct / rows), "positive_similarity": .number(outcome.statistics.positive / rows),
      "negative_similarity": .number(outcome.statistics.negative / rows), "gradient_norm": .number(gradientNorm),
      "weight_norm": .number(norm(session.method.encoder.state.parameters.data, session.method.encoder.state.parameters.count)),
    ]
    if let health {
      values["embedding_deviation"] = .number(health.deviation)
      values["effective_rank"] = .number(health.effectiveRank)
      // Early steps are at chance by nature.
      let warnings = done * 10 < session.plan.totalSteps ? [] : health.warnings(loss: outcome.loss, candidates: outcome.candidates)
      if !warnings.isEmpty { values["warnings"] = .list(warnings.map(JSONValue.text)) }
      for warning in warnings { progress.say("Warning at step \(done): \(warning)") }
    }
    var timing = progress.rates.timing
    timing["peak_memory"] = .number(Int(peakResident()))
    try metrics.append(MetricsLine(step: offset + done, values: values, timing: timing))
  }

  /// Health of all ranks' embeddings; nil where there are none.
  private func gatherHealth(_ method: any Method) -> EmbeddingHealth? {
    let d = method.dimension
    var counts = [Int64](repeating: 0, count: communicator.size)
    counts[communicator.rank] = Int64(method.embeddings.count)
    counts.withUnsafeMutableBufferPointer { communicator.allReduce($0, .sum, on: .control, "embedding counts") }
    let total = counts.reduce(0, +)
    guard total >= 2 * d else { return nil }
    var all = [Float](repeating: 0, count: Int(total))
    method.embeddings.withUnsafeBufferPointer { mine in
      communicator.allGather(mine.baseAddress ?? UnsafePointer(bitPattern: 64)!, counts: counts.map(Int.init), into: &all, "embeddings for health")
    }
    return EmbeddingHealth(all, count: Int(total) / d, dimension: d)
  }

  /// kNN on held-out images.
  private func monitor(_ session: Session, step: Int, _ progress: RunProgress?) throws {
    guard let heldOut else { return }
    let train = data.labelled(limit: session.stage.monitor.train), test = heldOut.labelled(limit: session.stage.monitor.test)
    guard !train.isEmpty, !test.isEmpty else { return }
    let trainTable = data.table(try session.extractor.features(of: data, train), train)
    let testTable = heldOut.table(try session.extractor.features(of: heldOut, test), test)
    let result = try KNN(neighbours: 20).run(train: trainTable, test: testTable, on: context)
    progress?.say(
      "step \(step)  kNN (k = 20) on \(test.count) held-out images: \(percent(result.top1)) % [\(percent(result.interval.low)), \(percent(result.interval.high))]")
    try metrics?.append(MetricsLine(step: step, values: ["knn_top1": .number(result.top1)]))
  }

  // MARK: Checkpoints

  private func save(_ session: Session, index: Int, done: Int) throws {
    try refuseWild(session, done: done)
    try compareReplicas(session, done: done)
    try metrics?.synchronize()
    let manifest = Manifest(
      stage: index, step: done, recipe: try request.recipe.yaml, data: data.path, dataFingerprint: String(data.fingerprint, radix: 16),
      images: data.count, encoder: session.method.encoder.name, channels: data.channels, fingerprint: Launch.fingerprint(context))
    _ = try communicator.onRoot {
      try Checkpoint.write(session.method.saved, manifest, in: folder, keep: session.stage.checkpoint.keep)
      return ""
    }
  }

  /// An update can leave the range of numbers by itself; the next step would say so, but a checkpoint must not hold it.
  private func refuseWild(_ session: Session, done: Int) throws {
    for trained in session.method.trained {
      let parameters = trained.state.parameters
      for entry in parameters.layout.entries where !norm(parameters[entry.slice], entry.slice.count).isFinite {
        throw RunError(
          "after step \(done) the weights of \(entry.name) are not finite; nothing was saved: "
            + "start again with a lower rate or a longer warm-up")
      }
    }
  }

  /// All ranks must hold the same bits; if not, the machine or the MPI library is at fault, and nothing is saved.
  private func compareReplicas(_ session: Session, done: Int) throws {
    let mine = session.method.trained.reduce(0) { $0 ^ Int($1.state.checksum) }
    guard communicator.allReduce(mine, .min) == communicator.allReduce(mine, .max) else {
      throw RunError("after step \(done) the ranks hold different weights; nothing was saved: check the machines' memory, and start again from the last checkpoint")
    }
  }

  /// The newest whole checkpoint, found by the root and agreed on.
  private func findCheckpoint() throws -> Manifest? {
    let text = try communicator.onRoot {
      let (manifest, damaged) = Checkpoint.newest(folder)
      for reason in damaged { print("Passed over: \(reason)") }
      guard let manifest else { return "" }
      return String(decoding: try JSONEncoder().encode(manifest), as: UTF8.self)
    }
    return text.isEmpty ? nil : try JSONDecoder().decode(Manifest.self, from: Data(text.utf8))
  }

  /// Takes back what was told after a step.
  private func rewind(to step: Int) throws {
    _ = try communicator.onRoot {
      try MetricsFile.truncate(folder.metrics, after: step)
      if FileManager.default.fileExists(atPath: folder.complete) { try FileManager.default.removeItem(atPath: folder.complete) }
      return ""
    }
  }

  private func resume(_ session: Session, _ manifest: Manifest) throws {
    if manifest.dataFingerprint != String(data.fingerprint, radix: 16), !request.force {
      throw RunError("run \(folder.path) was trained on other data (\(manifest.data), \(manifest.images) images); choose another --run, or --force")
    }
    let changes = try RecipeChanges.between(manifest.recipe, request.recipe.yaml)
    for change in changes { say("Changed since the checkpoint: \(change)") }
    let now = Launch.fingerprint(context)
    let others = now.keys.sorted().filter { manifest.fingerprint[$0] != now[$0] }
    for key in others { say("Changed since the checkpoint: \(key) \(manifest.fingerprint[key] ?? "?") → \(now[key]!)") }
    say("Resuming \(folder.path) after step \(manifest.step): \(others.isEmpty && changes.isEmpty ? "bit for bit" : "equal within rounding where nothing else changed").")
    try Checkpoint.read(session.method.saved, from: folder.checkpoints + "/" + Checkpoint.name(step: manifest.step))
    for trained in session.method.trained { trained.state.parameters.version &+= 1 }
    try rewind(to: manifest.step)
  }

  /// The encoder of one stage starts the next, parameter by parameter.
  private func carry(from old: any Method, to new: any Method) throws {
    for (from, to) in [(old.encoder.state.parameters, new.encoder.state.parameters), (old.encoder.state.statistics, new.encoder.state.statistics)] {
      for entry in to.layout.entries where entry.name.hasPrefix("encoder.") {
        guard let source = from.layout.entry(entry.name), source.shape == entry.shape else {
          throw RecipeError("stages: \(entry.name) is \(entry.shape) here and \(from.layout.entry(entry.name)?.shape ?? []) in the stage before; the encoder must stay the same")
        }
        to[entry.slice].update(from: from[source.slice], count: entry.slice.count)
      }
      to.version &+= 1
    }
    new.adoptEncoder()
  }

  // MARK: Words

  private func introduce(_ session: Session, index: Int, from first: Int) throws {
    let stage = session.stage, encoder = session.method.encoder, ranks = communicator.size
    let yaml = try request.recipe.yaml
    say("Recipe \(request.recipe.name)\(request.recipe.stages.count > 1 ? ", stage \(index): \(stage.name)" : "")\n" + yaml.split(separator: "\n").map { "  " + $0 }.joined(separator: "\n"))
    let candidates = session.candidates
    let facts: [(String, String)] = [
      ("data", "\(data.path): \(data.count) images, \(data.channels) channel\(data.channels == 1 ? "" : "s"), fingerprint \(String(data.fingerprint, radix: 16))"),
      ("encoder", "\(stage.encoder.name.rawValue), width \(stage.encoder.width): \(encoder.network.parameters.range(prefix: "encoder.").count) parameters, \(encoder.network.encoder.options.features) features"),
      ("ranks", "\(ranks) × \(context.team.count) thread\(context.team.count == 1 ? "" : "s") on \(MPICommunicator.host)\(ranks > 1 ? " and others" : ""), \(Launch.fingerprint(context)["processor"]!), OpenBLAS \(Launch.fingerprint(context)["kernels"]!), \(MPICommunicator.library)"),
      ("batch", "\(stage.batch) images, \(session.shares(step: 0).min()!) to \(session.shares(step: 0).max()!) a rank; negatives per anchor: \(candidates - 1); loss at chance: \(String(format: "%.3f", Foundation.log(Double(max(1, candidates)))))"),
      ("rate", "\(stage.optimizer.rate) × \(stage.optimizer.scaling.rawValue) scaling \(String(format: "%.4g", session.rateScale)) = \(String(format: "%.4g", session.rate))"),
      ("length", "\(session.plan.totalSteps) steps of \(session.plan.stepsPerEpoch) an epoch\(first > 0 ? ", \(first) done" : "")"),
      ("memory", "\(megabytes(session.memory.arena + session.memory.state + session.memory.loader)) MiB a rank: \(megabytes(session.memory.arena)) activations, \(megabytes(session.memory.state)) state, \(megabytes(session.memory.loader)) batches ahead"),
      ("disk", "\(megabytes(session.checkpointBytes * (stage.checkpoint.keep + 1))) MiB for \(stage.checkpoint.keep) checkpoints in \(folder.path)"),
    ]
    for (name, text) in facts { say(name.padding(toLength: 9, withPad: " ", startingAt: 0) + text) }
    for notice in session.notices { say("Note: \(notice)") }
    _ = try communicator.onRoot {
      try RunFolder.write(yaml, to: folder.recipe)
      let object = JSONValue.object(Dictionary(uniqueKeysWithValues: facts.map { ($0.0, JSONValue.text($0.1)) }))
      try RunFolder.write(object.json + "\n", to: folder.facts)
      return ""
    }
  }

  /// Runs the bad step again, layer by layer, and names where it went wrong.
  private func diagnose(_ session: Session, _ input: MethodInput, _ batch: Batch, _ outcome: MethodOutcome, _ gradientNorm: Double, done: Int) -> RunError {
    let watch = Watch()
    context.watch = watch
    defer { context.watch = nil }
    _ = session.gradients(input)
    // The earliest layer, and of its ranks the lowest.
    let mine = watch.found.map { $0.position * communicator.size + communicator.rank } ?? Int.max
    let first = communicator.allReduce(mine, .min)
    let kept = Checkpoint.list(folder).last.map { "the checkpoint of step \($0) is untouched" } ?? "there is no checkpoint yet"
    let what = "step \(done + 1): loss \(outcome.loss), gradient norm \(gradientNorm)"
    guard first != Int.max else {
      return RunError("\(what); run again, every layer was finite: check the machines' memory; \(kept)")
    }
    // The rank that knows tells all, so that whoever speaks first names the layer.
    let owner = first % communicator.size
    let samples = batch.samples.prefix(8).map(String.init).joined(separator: ", ")
    let found = communicator.broadcast(
      mine == first ? Array("\(watch.found!.layer) on rank \(owner), whose images are samples \(samples)…".utf8) : nil, from: owner)
    return RunError(
      "\(what): the first value that is not finite came out of \(String(decoding: found, as: UTF8.self)); "
        + "\(kept): start again with a lower rate or a longer warm-up")
  }
}
