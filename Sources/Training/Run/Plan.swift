import Engine
import Files
import Foundation
import Limits
import Ranks
import Shards

/// All stages of a run, resolved and checked before step 0: data, start, lengths, memory, disk.
package struct Plan {
  /// A stage with everything that it names.
  package struct Planned {
    package let index: Int
    package let stage: Stage
    package let data: DataSet
    package let heldOut: DataSet?
    /// On whose labelled images its encoder is judged at its end.
    let judgedOn: (train: DataSet, test: DataSet)?
    package let start: Start
    package let teachers: [PlannedTeacher]
    package let steps: Int
    /// What the user should know, in words.
    let notices: [String]
    /// What it will take.
    package let cost: StageCost
    /// The step after which its first checkpoint is written at the latest.
    let firstCheckpoint: Int
    /// The networks whose encoders are the result, and what the first one is fed.
    let networks: [Network], input: EncoderInput
    /// Shapes of the method's further state, by name.
    let state: [String: [Int]]
    /// The first of them.
    var network: Network { networks[0] }
  }

  /// Where a stage's first weights come from.
  package enum Start {
    case nothing
    /// The end of an earlier stage of this run.
    case stage(Int)
    case run(RunFolder)
    case file(String)
  }

  package let recipe: Recipe
  package let stages: [Planned]

  /// - Throws: `RecipeError`, `RunError` or `FileError` for whatever could not work, the same on every rank.
  package init(_ request: PretrainRequest, _ context: Context) throws {
    recipe = request.recipe
    try Plan.checkNames(recipe)
    try Plan.refuseOwnFolder(request)
    let sets = try Plan.open(request)
    let folder = RunFolder(request.run)
    var planned: [Planned] = []
    let rate = context.communicator.allReduce(Peak.arithmetic(threads: context.team.count), .min)
    for (index, stage) in request.recipe.stages.enumerated() {
      let (data, heldOut) = sets[stage.data.set]!
      let (stageRun, teachers) = try Plan.named(stage, of: request.recipe) {
        let teachers = try Plan.teachers(of: stage, planned, data, context)
        let stageRun = try StageRun(
          stage, data: data, heldOut: heldOut, seed: request.recipe.seed, index: index,
          teachers: teachers.map { $0.make() }, context)
        return (stageRun, teachers)
      }
      try Plan.checkRoom(stageRun, folder)
      let start = try Plan.named(stage, of: request.recipe) {
        try Plan.start(of: index, request.recipe, stageRun, planned, context)
      }
      planned.append(
        Planned(
          index: index, stage: stage, data: data, heldOut: heldOut,
          judgedOn: try Plan.judgedOn(stage, sets), start: start, teachers: teachers,
          steps: stageRun.plan.totalSteps, notices: stageRun.notices,
          cost: StageCost(stageRun, work: stageRun.work, rate: rate),
          firstCheckpoint: min(max(1, stageRun.plan.steps(stage.checkpoint.every)), stageRun.plan.totalSteps),
          networks: stageRun.method.results.map(\.network), input: stageRun.inputs[0],
          state: Plan.shapes(of: stageRun.method.state)))
    }
    stages = planned
    try checkDisk(folder)
  }

  /// The running form of a stage.
  package func make(_ index: Int, _ context: Context) throws -> StageRun {
    let planned = stages[index]
    return try StageRun(
      planned.stage, data: planned.data, heldOut: planned.heldOut, seed: recipe.seed, index: index,
      teachers: planned.teachers.map { $0.make() }, context)
  }

  /// Steps of the stages before one.
  package func steps(before index: Int) -> Int { stages[..<index].reduce(0) { $0 + $1.steps } }

  // MARK: Checks

  private static func checkNames(_ recipe: Recipe) throws(RecipeError) {
    var names: Set<String> = []
    for stage in recipe.stages where !names.insert(stage.name).inserted {
      throw RecipeError(
        "two stages are named `\(stage.name)`: give each a name of its own, such as {name: \(stage.name)-2}")
    }
  }

  /// Refuses to train in the folder of the run that is started or learned from: it would be set aside, or written over.
  private static func refuseOwnFolder(_ request: PretrainRequest) throws(RecipeError) {
    func resolved(_ path: String) -> String { URL(fileURLWithPath: path).resolvingSymlinksInPath().path }
    for stage in request.recipe.stages {
      for source in [stage.start.from] + stage.method.value.teachers {
        guard case .run(let path) = source, resolved(path) == resolved(request.run) else { continue }
        throw RecipeError(
          "stage \(stage.name) takes weights of run \(path), which is also the folder to train in: give another --run")
      }
    }
  }

  /// Opens every data set that a stage reads, each once.
  private static func open(_ request: PretrainRequest) throws -> [String: (DataSet, DataSet?)] {
    let read = request.recipe.stages.flatMap { [$0.data.set] + ($0.evaluate.map { [$0] } ?? []) }
    let given = request.data.keys.sorted()
    for stage in request.recipe.stages {
      let names = [stage.data.set] + (stage.evaluate.map { [$0] } ?? [])
      guard let name = names.first(where: { request.data[$0] == nil }) else { continue }
      let near = suggestion(for: name, in: given)
      let option = name == DataRecipe.defaultSet ? "--data PATH" : "--data \(name)=PATH"
      throw RecipeError("stage \(stage.name) reads the data set `\(name)`, which was not given\(near) add \(option)")
    }
    for (option, names) in [("--data", given), ("--test", request.heldOut.keys.sorted())] {
      for name in names where !read.contains(name) {
        let near = suggestion(for: name, in: read)
        throw RecipeError(
          "\(option) gives a data set `\(name)`, which no stage reads\(near) the stages read "
            + Set(read).sorted().joined(separator: ", "))
      }
    }
    var sets: [String: (DataSet, DataSet?)] = [:]
    for name in Set(read).sorted() {
      let (train, test) = Trainer.paths(request.data[name]!, request.heldOut[name])
      sets[name] = (try DataSet(at: train), try test.map { try DataSet(at: $0) })
    }
    return sets
  }

  /// Checkpoints that are there at the same time: the last and the best of each earlier stage, and those of the present
  /// one.
  package var diskBytes: Int {
    var earlier = 0
    var most = 0
    for planned in stages {
      most = max(most, earlier + planned.cost.checkpoint * (planned.cost.keep + 1))
      earlier += planned.cost.checkpoint * (planned.stage.data.validation == nil ? 1 : 2)
    }
    return most
  }

  private func checkDisk(_ folder: RunFolder) throws(RunError) {
    guard stages.count > 1, let free = FileSystem.freeBytes(at: folder.path), free < Int64(diskBytes) else { return }
    throw RunError(
      "the checkpoints of \(stages.count) stages need \(megabytes(diskBytes)) MiB at \(folder.path), but "
        + "\(megabytes(Int(free))) are free: make room or give another --run")
  }

  /// The sets that a stage is judged on.
  private static func judgedOn(
    _ stage: Stage, _ sets: [String: (DataSet, DataSet?)]
  ) throws(RecipeError) -> (train: DataSet, test: DataSet)? {
    guard let name = stage.evaluate, let (train, heldOut) = sets[name] else { return nil }
    guard let heldOut else {
      throw RecipeError(
        "stage \(stage.name): evaluate is \(name), which has no held-out images: add --test \(name)=PATH, or pack with "
          + "--split")
    }
    for set in [train, heldOut] where LabelledImages(set, classes: train.classNames, limit: 1).isEmpty {
      throw RecipeError(
        "stage \(stage.name): evaluate is \(name), but \(set.path) has no labelled image of its classes")
    }
    return (train, heldOut)
  }

  private static func checkRoom(_ stageRun: StageRun, _ folder: RunFolder) throws {
    try stageRun.checkRoom(
      folder, ofNode: .ofNode(), ofProcess: .ofProcess(), diskFree: FileSystem.freeBytes(at: folder.path))
  }

  /// Says of an error which stage it is of, where there are several.
  private static func named<T>(_ stage: Stage, of recipe: Recipe, _ body: () throws -> T) throws -> T {
    if recipe.stages.count == 1 { return try body() }
    do { return try body() } catch { throw RunError("stage \(stage.name): \(error)") }
  }

  // MARK: Starts

  /// Resolves where a stage starts from, and checks that the parts which it takes over are there and fit.
  static func start(
    of index: Int, _ recipe: Recipe, _ stageRun: StageRun, _ earlier: [Planned], _ context: Context
  ) throws -> Start {
    let start = recipe.stages[index].start
    if start.from == .nothing { return .nothing }
    let wantedState = shapes(of: stageRun.method.state.filter { start.carries(state: $0.name) })
    let parts = start.parts.filter { part in !wantedState.keys.contains(where: part.coversState) }
    let wanted = try stageRun.method.results.map { try Plan.parts(parts, of: shapes(of: $0.network)) }
    func compareAll(with sources: [[String: [Int]]], of name: String) throws {
      for (wanted, source) in zip(wanted, sources) { try compare(wanted, with: source, of: name) }
    }
    switch start.from {
    case .nothing: return .nothing
    case .previous, .stage:
      let found = try stage(start.from, among: earlier, for: "start.from")
      try compareAll(with: found.networks.map(shapes), of: "stage \(found.stage.name)")
      try compare(wantedState, with: found.state, of: "stage \(found.stage.name)")
      try compareClasses(start, stageRun.data, with: found.data.classNames, of: "stage \(found.stage.name)")
      return .stage(found.index)
    case .run(let path):
      let folder = RunFolder(path)
      let manifest = try result(path, for: "start.from", context.communicator)
      let checkpoint = folder.checkpoints + "/" + Checkpoint.name(step: manifest.step)
      try compareAll(
        with: manifest.encoders.map { try Checkpoint.shapes(of: $0, in: checkpoint) }, of: "run \(path)")
      let found = try Checkpoint.shapes(of: Array(wantedState.keys), in: checkpoint)
      try compare(wantedState, with: found, of: "run \(path)")
      if let names = manifest.classNames { try compareClasses(start, stageRun.data, with: names, of: "run \(path)") }
      return .run(folder)
    case .file(let path):
      guard start.carry == ["encoder"] else {
        throw RecipeError("start.from is `file \(path)`, which holds an encoder alone; carry is \(start.carry)")
      }
      try Weights.load(path, into: stageRun.method.encoder.state)
      return .file(path)
    }
  }

  /// Resolves the teachers of a stage's method.
  static func teachers(
    of stage: Stage, _ earlier: [Planned], _ data: DataSet, _ context: Context
  ) throws -> [PlannedTeacher] {
    try stage.method.value.teachers.map { source in
      let teacher =
        switch source {
        case .nothing:
          throw RecipeError("teacher is `nothing`; it can be `previous`, `stage NAME`, `run FOLDER` or `file PATH`")
        case .previous, .stage:
          PlannedTeacher(source, stage: try Plan.stage(source, among: earlier, for: "teacher"))
        case .run(let path): try PlannedTeacher(source, run: path, context.communicator)
        case .file(let path): try PlannedTeacher(source, file: path)
        }
      guard teacher.input.imageChannels == data.channels else {
        throw RecipeError(
          "teacher \(source) takes images of \(teacher.input.imageChannels) channels, those of \(data.path) have "
            + "\(data.channels): take another teacher, or pack the images with --channels")
      }
      return teacher
    }
  }

  /// The earlier stage that a source means.
  private static func stage(
    _ source: StageStart.Source, among earlier: [Planned], for key: String
  ) throws(RecipeError) -> Planned {
    let names = earlier.map(\.stage.name)
    guard case .stage(let name) = source else {
      guard let last = earlier.last else {
        throw RecipeError(
          "\(key) is `\(source)`, but this stage is the first; give stage NAME, run FOLDER or file PATH")
      }
      return last
    }
    guard let found = earlier.first(where: { $0.stage.name == name }) else {
      let near = suggestion(for: name, in: names)
      throw RecipeError(
        "\(key) is `stage \(name)`, but no stage of that name comes before this one\(near) "
          + (names.isEmpty ? "it is the first" : "before it come \(names.joined(separator: ", "))"))
    }
    return found
  }

  /// The manifest of what a run came to.
  static func result(_ path: String, for key: String, _ communicator: any Communicator) throws -> Manifest {
    let folder = RunFolder(path)
    guard let manifest = try Checkpoint.result(folder, communicator).manifest else {
      throw RunError("\(key) is `run \(path)`, but there is no checkpoint in \(folder.checkpoints)")
    }
    return manifest
  }

  private static func shapes(of state: [SavedState]) -> [String: [Int]] {
    Dictionary(uniqueKeysWithValues: state.map { ($0.name, $0.shape) })
  }

  private static func shapes(of network: Network) -> [String: [Int]] {
    let entries = network.parameters.entries + network.statistics.entries
    return Dictionary(uniqueKeysWithValues: entries.map { ($0.name, $0.shape) })
  }

  /// Shapes of what some parts of a network consist of, by name.
  private static func parts(
    _ parts: [PartName], of shapes: [String: [Int]]
  ) throws(RecipeError) -> [String: [Int]] {
    for part in parts where !shapes.keys.contains(where: part.covers) {
      throw RecipeError("start.carry: this stage's network has no part `\(part)`\(part.advice(among: shapes.keys))")
    }
    return shapes.filter { shape in parts.contains { $0.covers(shape.key) } }
  }

  private static func compare(_ wanted: [String: [Int]], with source: [String: [Int]], of name: String) throws {
    for (parameter, shape) in wanted.sorted(by: { $0.key < $1.key }) where source[parameter] != shape {
      let found = source[parameter].map { "has shape \($0) in" } ?? "is not in"
      throw RecipeError(
        "start: \(parameter) has shape \(shape) here and \(found) \(name): "
          + "what is carried over must be the same; change the encoder or head, or start.carry")
    }
  }

  /// A classifier tells the same classes in the same order wherever it is taken over.
  private static func compareClasses(
    _ start: StageStart, _ data: DataSet, with classNames: [String], of name: String
  ) throws(RecipeError) {
    guard start.parts.contains("classifier"), classNames != data.classNames else { return }
    throw RecipeError(
      "start.carry has the classifier, but \(name) tells the classes \(listed(classNames)), and \(data.path) has "
        + "\(listed(data.classNames)): leave it out of start.carry, or pack the images with --like")
  }
}
