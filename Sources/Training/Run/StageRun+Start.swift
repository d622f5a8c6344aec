import Engine
import HDF5
import Ranks
import Shards

/// The weights that a stage starts from.
extension StageRun {
  /// Draws what is new and takes over what the recipe says.
  /// - Parameter checkpoint: the path of what a stage came to, by its index.
  /// - Returns: what was taken over, in words; nil where all is new.
  package func start(
    from start: Plan.Start, _ communicator: any Communicator, checkpoint: (Int) throws -> String
  ) throws -> String? {
    method.initialise()
    if case .file(let weights) = start {
      try communicator.onEvery { try Weights.load(weights, into: method.encoder.state) }
      method.adoptEncoder()
      return weights
    }
    guard let path = try start.checkpoint(communicator, of: checkpoint) else { return nil }
    let manifest = try Checkpoint.verify(path, communicator, replicatedOnly: true)
    try communicator.onEvery {
      for (trained, name) in zip(method.results, manifest.encoders) {
        try Checkpoint.read(trained.state.saved(name).filter { carries($0, network: name) }, from: path)
      }
    }
    method.adoptEncoder()
    let carried = method.state.filter { stage.start.carries(state: $0.name) }
    try communicator.onEvery { try Checkpoint.read(carried, from: path) }
    return path
  }

  /// Reads the weights of the networks that the method asks.
  /// - Parameters:
  ///   - planned: where they are, in the teachers' order.
  ///   - checkpoint: the path of what a stage came to, by its index.
  package func loadTeachers(
    _ planned: [Plan.PlannedTeacher], _ communicator: any Communicator, checkpoint: (Int) throws -> String
  ) throws {
    for (teacher, planned) in zip(teachers, planned) {
      if case .file(let weights) = planned.start {
        try communicator.onEvery { try Weights.load(weights, into: teacher.state) }
      } else if let path = try planned.start.checkpoint(communicator, of: checkpoint) {
        let manifest = try Checkpoint.verify(path, communicator, replicatedOnly: true)
        try communicator.onEvery { try Checkpoint.read(teacher.state.saved(manifest.encoder), from: path) }
      }
    }
    teacherChecksums = teachers.map(\.state.checksum)
  }

  /// Whether an array of the network belongs to a part that is taken over.
  private func carries(_ array: SavedState, network: String) -> Bool {
    ["parameters", "statistics"].contains { kind in
      let prefix = "\(network)/\(kind)/"
      return array.name.hasPrefix(prefix)
        && stage.start.parts.contains { $0.covers(String(array.name.dropFirst(prefix.count))) }
    }
  }
}

extension Plan.Start {
  /// The path of the checkpoint that it means; nil where it means none. All ranks get the same.
  /// - Parameter stage: the path of what a stage came to, by its index.
  fileprivate func checkpoint(_ communicator: any Communicator, of stage: (Int) throws -> String) throws -> String? {
    switch self {
    case .nothing, .file: return nil
    case .stage(let index): return try stage(index)
    case .run(let folder):
      guard let manifest = try Checkpoint.result(folder, communicator).manifest else {
        throw RunError("there is no checkpoint in \(folder.checkpoints) any more")
      }
      return folder.checkpoints + "/" + Checkpoint.name(step: manifest.step)
    }
  }
}

extension Checkpoint {
  /// Shapes of some arrays that every rank has, by name; those that are not there are left out.
  static func shapes(of names: [String], in path: String) throws -> [String: [Int]] {
    let file = try HDF5File.open(path + "/" + stateFile)
    defer { try? file.close() }
    var shapes: [String: [Int]] = [:]
    for name in names { shapes[name] = try? file.shape(of: name) }
    return shapes
  }

  /// Shapes of a network's parameters and statistics in a checkpoint, by their names in the network.
  static func shapes(of network: String, in path: String) throws -> [String: [Int]] {
    let file = try HDF5File.open(path + "/" + stateFile)
    defer { try? file.close() }
    var shapes: [String: [Int]] = [:]
    for group in ["parameters", "statistics"] {
      for name in try file.names(in: "\(network)/\(group)") {
        shapes[name] = try file.shape(of: "\(network)/\(group)/\(name)")
      }
    }
    return shapes
  }
}
