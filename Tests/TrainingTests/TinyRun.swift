import Engine
import Foundation
import Randomness
import Shards
import Training

/// A folder with small labelled data sets, and runs on them that take seconds.
final class TinyRun: Sendable {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("tiny-\(UUID().uuidString)").path
  static let side = 10

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  /// Images of one channel whose classes are stripes of different widths in noise.
  /// - Parameters:
  ///   - classes: the names of the classes. Images have the classes in `shown` (nil for all); the index of a name in
  ///     `all` decides how its images look.
  ///   - mean, deviation: the statistics that are stored in the set.
  @discardableResult
  func pack(
    _ name: String, count: Int, classes: [String] = ["a", "b", "c"], shown: [String]? = nil, labelled: Bool = true,
    mean: Double = 0.5, deviation: Double = 0.3, part: UInt64 = 0
  ) throws -> DataSet {
    let all = ["a", "b", "c", "d"]
    let path = folder + "/" + name
    let writer = try DataSetWriter(path, classNames: labelled ? classes : [], shardSize: 1 << 20)
    let side = Self.side
    let record = ImageRecord(length: side * side, width: side, height: side, channels: 1, encoding: .raw, colour: 1)
    let shown = shown ?? classes
    for sample in 0..<count {
      var draws = Draws(seed: 4, .check, part, UInt64(sample))
      let name = shown[sample % shown.count]
      let period = all.firstIndex(of: name)! + 2
      let bytes = (0..<side * side).map { UInt8((($0 % side) / period % 2) * 120 + draws.integer(below: 100)) }
      var record = record
      if labelled { record.label = Int32(classes.firstIndex(of: name)!) }
      try bytes.withUnsafeBytes { try writer.append($0, record, key: "\(name)/\(sample)") }
    }
    try writer.finish(mean: [mean], deviation: [deviation])
    return try DataSet(at: path)
  }

  static func recipe(_ changes: [String] = []) throws -> Recipe {
    let yaml = """
      encoder: {name: resnet18, width: 0.0625, stem: small}
      views:
        - {count: 2, size: 8, operations: [{crop: {scale: [0.3, 1]}}, {flip: 0.5}, {normalise: dataset}]}
      method: {name: simclr, temperature: 0.5, head: [features, 16], headDeviation: 0.1}
      optimizer: {name: sgd, rate: 0.1, momentum: 0.9, decay: 1.0e-4}
      batch: 12
      length: 6 steps
      log: 1 steps
      monitor: {every: 3 steps, train: 30, test: 20}
      checkpoint: {every: 2 steps, keep: 10}
      """
    return try Recipe(yaml: yaml, from: "tiny", overrides: changes)
  }

  /// Trains to the end.
  /// - Returns: the run's folder.
  @discardableResult
  func train(
    _ name: String, on data: String, test: String? = nil, _ changes: [String] = [], force: Bool = false
  ) throws -> String {
    let run = folder + "/" + name
    var request = PretrainRequest(recipe: try Self.recipe(changes), data: ["data": folder + "/" + data], run: run)
    if let test { request.heldOut["data"] = folder + "/" + test }
    request.force = force
    _ = try Trainer(request, Context()).run()
    return run
  }
}
