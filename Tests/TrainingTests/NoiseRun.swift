import Engine
import Foundation
import Randomness
import Shards
import Training

/// A folder with data sets of keyed noise, and runs on them that take milliseconds per step.
final class NoiseRun {
  let path = FileManager.default.temporaryDirectory.appendingPathComponent("tiny-\(UUID().uuidString)").path
  /// Lines printed by the last training.
  private(set) var said: [String] = []
  var run: RunFolder { RunFolder(path + "/run") }

  init() throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try write("data", images: 40, seed: 4)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// Writes a data set of two classes.
  func write(
    _ name: String, images: Int, channels: Int = 1, classNames: [String] = ["a", "b"], seed: UInt64
  ) throws {
    let writer = try DataSetWriter(path + "/" + name, classNames: classNames, shardSize: 1 << 20)
    let side = 10
    let length = side * side * channels
    for sample in 0..<images {
      let record = ImageRecord(
        length: length, width: side, height: side, channels: channels, encoding: .raw, colour: channels == 1 ? 1 : 0,
        label: Int32(sample % 2))
      var draws = Draws(seed: seed, .check, UInt64(sample))
      let bytes = (0..<length).map { _ in UInt8(truncatingIfNeeded: draws.bits()) }
      try bytes.withUnsafeBytes { try writer.append($0, record, key: "\(sample)") }
    }
    try writer.finish(
      mean: Array(repeating: 0.5, count: channels), deviation: Array(repeating: 0.3, count: channels))
  }

  static let tiny = """
    encoder: {name: resnet18, width: 0.0625, stem: small}
    views: [{count: 2, size: 8, operations: [{crop: {scale: [0.3, 1]}}, {flip: 0.5}, {normalise: dataset}]}]
    method: {name: simclr, temperature: 0.5, head: [features, 16], headDeviation: 0.1}
    optimizer: {name: sgd, rate: 0.5, momentum: 0.9, decay: 1.0e-4}
    schedule: {name: cosine}
    batch: 12
    length: 4 steps
    log: 1 steps
    checkpoint: {every: 3 steps}

    """

  static let moco = "batchNorm: {shuffle: 6}, method: {name: moco, temperature: 0.2, head: [16], queue: 50}"

  func request(_ stages: String = "", _ overrides: [String] = [], data: [String: String]? = nil) throws
    -> PretrainRequest
  {
    PretrainRequest(
      recipe: try Recipe(yaml: Self.tiny + stages, from: "test", overrides: overrides),
      data: data ?? ["data": path + "/data"], run: run.path)
  }

  /// Trains to the end, or stops after a number of steps.
  @discardableResult
  func train(_ request: PretrainRequest, stopAfter steps: Int? = nil) throws -> Ending {
    var left = steps ?? Int.max
    said = []
    let trainer = try Trainer(
      request, Context(),
      isAskedToStop: {
        left -= 1
        return left <= 0
      }, say: { self.said.append($0) })
    return try trainer.run()
  }

  /// The error with which a request is refused; nil if it is not.
  func refusal(_ request: PretrainRequest) -> String? {
    do {
      try train(request)
      return nil
    } catch { return "\(error)" }
  }

  /// Checksums of all arrays of a checkpoint.
  func arrays(_ step: Int, of run: RunFolder? = nil) throws -> [String] {
    let path = (run ?? self.run).checkpoints + "/" + Checkpoint.name(step: step)
    return try Checkpoint.arrays(path).map { "\($0.name) \($0.crc32)" }
  }

  /// The metrics without `timing`.
  func metrics(of run: RunFolder? = nil) throws -> [MetricsLine] {
    try MetricsFile.read((run ?? self.run).metrics).map { MetricsLine(step: $0.step, values: $0.values) }
  }

  func text(_ name: String) -> String? { try? String(contentsOfFile: run.path + "/" + name, encoding: .utf8) }
  func write(_ text: String, to name: String) throws {
    try text.write(toFile: run.path + "/" + name, atomically: false, encoding: .utf8)
  }
}
