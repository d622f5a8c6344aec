import Engine
import HDF5
import Ranks
import Shards

/// The weights that a stage starts from.
extension StageRun {
  /// Draws what is new and takes over what the recipe says.
  /// - Parameter checkpoint: the path of a stage's last checkpoint, by its index.
  /// - Returns: what was taken over, in words; nil where all is new.
  package func start(
    from start: Plan.Start, _ communicator: any Communicator, checkpoint: (Int) -> String
  ) throws -> String? {
    method.initialise()
    let path: String
    switch start {
    case .nothing: return nil
    case .file(let weights):
      try communicator.onEvery { try Weights.load(weights, into: method.encoder.state) }
      method.adoptEncoder()
      return weights
    case .stage(let index): path = checkpoint(index)
    case .run(let folder):
      guard let manifest = try Checkpoint.newest(folder, communicator, replicatedOnly: true).manifest else {
        throw RunError("there is no checkpoint in \(folder.checkpoints) any more")
      }
      path = folder.checkpoints + "/" + Checkpoint.name(step: manifest.step)
    }
    let manifest = try Checkpoint.verify(path, communicator, replicatedOnly: true)
    try communicator.onEvery {
      let state = method.encoder.state.saved(manifest.encoder)
      try Checkpoint.read(state.filter { carries($0, network: manifest.encoder) }, from: path)
    }
    method.adoptEncoder()
    return path
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

extension Checkpoint {
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
