import CZlib
import Engine
import Foundation
import Ranks
import Shards

/// What a stage of a run is, in words, as it is printed at the start, kept in `facts.json` and shown by the report.
package struct RunFacts: Codable, Sendable, Equatable {
  package var stage: String?
  package var data: String
  /// Whose labels may be seen, of a method that learns from labels.
  package var labels: String?
  package var encoder: String
  /// What trains, where a recipe has rules for it.
  package var trained: String?
  package var ranks: String
  package var batch: String
  package var rate: String
  package var length: String
  package var memory: String
  package var disk: String
  /// Checksum of `recipe.yaml`, by which an edited one is told from the run's own.
  var recipe: String?

  /// Name and text of every fact, in the order in which they are shown.
  package var table: [(name: String, text: String)] {
    let first = stage.map { [(name: "stage", text: $0)] } ?? []
    let rules = trained.map { [(name: "trained", text: $0)] } ?? []
    let labels = labels.map { [(name: "labels", text: $0)] } ?? []
    return first + [("data", data)] + labels + [("encoder", encoder)] + rules + [
      ("ranks", ranks), ("batch", batch), ("rate", rate), ("length", length),
      ("memory", memory), ("disk", disk),
    ]
  }

  /// - Parameters:
  ///   - index: of the stage; nil where the run has only one.
  ///   - done: steps of the stage.
  init(
    _ stageRun: StageRun, _ cost: StageCost, index: Int?, done: Int, recipe: String, folder: RunFolder, _ context: Context
  ) {
    let stage = stageRun.stage
    self.stage = index.map { "\($0): \(stage.name), starts from \(stage.start)" }
    data = Self.data(stageRun.data)
    labels = stageRun.labels.map { Self.labels($0, stageRun) }
    encoder = Self.encoder(stage.encoder, stageRun.method.encoder.network)
    trained = stage.parameters.isEmpty ? nil : Self.trained(stageRun.method)
    ranks = Self.ranks(context)
    batch = Self.batch(stageRun)
    rate =
      "\(stage.optimizer.rate) × \(stage.optimizer.scaling.rawValue) scaling "
      + String(format: "%.4g = %.4g", stageRun.rateScale, stageRun.rate)
    let rest = done > 0 ? ", \(done) done" : ""
    let time = cost.seconds.map { ", about \(StageCost.words($0)) of arithmetic" } ?? ""
    length = "\(stageRun.plan.totalSteps) steps of \(stageRun.plan.stepsPerEpoch) an epoch\(rest)\(time)"
    memory = stageRun.memory.description
    disk =
      "\(megabytes(stageRun.checkpointBytes * (stage.checkpoint.keep + 1))) MiB for \(stage.checkpoint.keep) "
      + "checkpoints in \(folder.path)"
    self.recipe = Self.checksum(of: Data(recipe.utf8))
  }

  private static func data(_ data: DataSet) -> String {
    let channels = "\(data.channels) channel\(data.channels == 1 ? "" : "s")"
    return "\(data.path): \(data.count) images, \(channels), fingerprint \(String(data.fingerprint, radix: 16))"
  }

  private static func labels(_ labels: LabelSelection, _ stageRun: StageRun) -> String {
    let counts = labels.counts.filter { $0 > 0 }
    let least = counts.min() ?? 0
    let most = counts.max() ?? 0
    let each = least == most ? "\(least)" : "\(least) to \(most)"
    var words = "\(labels.training.count) of \(labels.available) labelled images, \(each) a class"
    if !labels.validation.isEmpty { words += "; \(labels.validation.count) more for validation" }
    return words + "; \(stageRun.images.count) images are trained on"
  }

  private static func encoder(_ recipe: EncoderRecipe, _ network: Network) -> String {
    let count = network.parameters.parameterCount(of: .encoder)
    return "\(recipe.name.rawValue), width \(recipe.width): \(count) parameters, "
      + "\(network.encoder.options.features) features"
  }

  private static func trained(_ method: any Method) -> String {
    let entries = method.trained.flatMap { $0.network.parameters.entries }
    let all = entries.reduce(0) { $0 + $1.slice.count }
    let trained = entries.filter(\.trains).reduce(0) { $0 + $1.slice.count }
    return "\(trained) of \(all) parameters, heads included"
  }

  private static func ranks(_ context: Context) -> String {
    let communicator = context.communicator
    let threads = "\(context.team.count) thread\(context.team.count == 1 ? "" : "s")"
    let turns = communicator.takesTurns ? " in turns at their cores" : ""
    let others = communicator.size > communicator.ranksOnNode ? " and others" : ""
    let fingerprint = Launch.fingerprint(context)
    return "\(communicator.size) × \(threads)\(turns) on \(communicator.host)\(others), "
      + "\(fingerprint["processor"] ?? "?"), OpenBLAS \(fingerprint["kernels"] ?? "?"), \(MPICommunicator.library)"
  }

  private static func batch(_ stageRun: StageRun) -> String {
    let shares = stageRun.shares(step: 0)
    let negatives = stageRun.candidates.map { "; negatives per anchor: \($0 - 1)" } ?? ""
    let chance = stageRun.chance.map { "; loss at chance: \(fixed($0, 3))" } ?? ""
    return "\(stageRun.stage.batch) images, \(shares.min()!) to \(shares.max()!) a rank" + negatives + chance
  }

  static func checksum(of text: Data) -> String {
    String(text.withUnsafeBytes { czlib_crc32(0, $0.baseAddress, $0.count) }, radix: 16)
  }

  // MARK: The file

  /// The facts that a run wrote last; nil where there are none.
  package init?(folder: RunFolder) {
    guard let data = FileManager.default.contents(atPath: folder.facts),
      let facts = try? JSONDecoder().decode(RunFacts.self, from: data)
    else { return nil }
    self = facts
  }

  func write(to folder: RunFolder) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    try RunFolder.write(String(decoding: encoder.encode(self), as: UTF8.self) + "\n", to: folder.facts)
  }
}
