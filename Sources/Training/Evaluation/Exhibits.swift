import Engine
import Foundation
import Shards
import Threading

/// What a report shows that only data and weights could give: augmented views, neighbours, kernels, facts.
package enum Exhibits {
  private static let images = 8

  /// - Parameter outcome: of an evaluation, for nearest neighbours; nil leaves them out.
  package static func make(
    _ encoder: FrozenEncoder, run: String, data: DataSet, test: DataSet?, _ outcome: Comparison.Outcome?
  ) throws -> ReportExhibits {
    guard data.channels == encoder.input.imageChannels else {
      throw RunError(
        "cannot show images of \(data.path): they have \(data.channels) channels, the encoder takes "
          + "\(encoder.input.imageChannels); give the run's data set")
    }
    var exhibits = ReportExhibits(
      title: URL(fileURLWithPath: run).lastPathComponent,
      summary: outcome.map(\.record.summary) ?? "\(encoder.step) steps of \(encoder.recipe.name).")
    let facts = RunFacts(folder: RunFolder(run))?.table ?? []
    exhibits.facts = facts.map { ReportContent.Fact($0.name, $0.text) }
    exhibits.grids = [try views(encoder, data)]
    if let outcome, let test {
      let record = outcome.record
      exhibits.grids.append(
        try .neighbours(outcome.neighbours, origin: record.origin, classNames: record.classNames) {
          isTraining, sample in try picture(isTraining ? data : test, sample)
        })
    }
    // An encoder that begins with a convolution shows its kernels, (R, S, C, K).
    if let first = encoder.state.parameters.layout.entries.first, first.kind == .weight, first.shape.count == 4 {
      exhibits.grids.append(
        .kernels(
          encoder.state.parameters[first.slice], kernel: first.shape[0], channels: first.shape[2],
          filters: first.shape[3]))
    }
    return exhibits
  }

  /// Shows views, kernels and facts anew; what an evaluation found is kept.
  /// - Returns: what the user should know of the checkpoint, in words.
  @discardableResult
  package static func refresh(_ run: String, data: DataSet) throws -> [String] {
    let encoder = try FrozenEncoder(run: run)
    var exhibits = try make(encoder, run: run, data: data, test: nil, nil)
    if let old = try RunFiles.exhibits(of: run) {
      exhibits.grids += old.grids.filter { grid in !exhibits.grids.contains { $0.title == grid.title } }
      if try !RunFiles.evaluations(of: run).isEmpty { exhibits.summary = old.summary }
    }
    try RunFiles.write(exhibits, to: run)
    return encoder.notices
  }

  /// Views of a few images, as the stage made them in its first epoch.
  private static func views(_ encoder: FrozenEncoder, _ data: DataSet) throws -> ReportContent.Grid {
    let seed = StageRun.seed(encoder.recipe.seed, stage: encoder.stageIndex)
    let recipe = encoder.stage.views[0].normalised(by: encoder.input)
    let count = min(images, data.count)
    let order = Order(count: data.count, batch: count, seed: seed)
    let loader = try Loader(
      data, order: order, views: [recipe], rank: 0, ranks: 1, seed: seed, threads: 1, ahead: 1, from: 0,
      until: 1)
    let batch = try loader.next()
    defer { loader.release(batch) }
    return .views(
      batch.groups[0].pixels, count: recipe.count, images: count, size: recipe.size, channels: batch.groups[0].channels,
      names: try batch.samples.map { try data.key($0) })
  }

  /// An image as it is, at most 96 pixels.
  static func picture(_ data: DataSet, _ sample: Int) throws -> ReportImage {
    let record = data.record(sample)
    let size = min(96, max(record.width, record.height))
    var pixels = [Float](repeating: 0, count: size * size * data.channels)
    try pixels.withUnsafeMutableBufferPointer {
      try EncoderInput(size: size, margin: 0, channels: data.channels).fill(
        data, samples: [sample], into: $0.baseAddress!, ThreadTeam(count: 1))
    }
    return ReportImage(
      width: size, height: size, channels: data.channels,
      pixels: pixels.map { UInt8(max(0, min(255, ($0 * 255).rounded()))) })
  }
}
