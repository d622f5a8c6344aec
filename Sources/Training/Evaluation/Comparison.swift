import Engine
import Foundation
import Limits
import Ranks
import Shards

/// Evaluates an encoder beside the same encoder without training, and beside raw pixels.
package struct Comparison {
  package let encoder: FrozenEncoder
  package let train: DataSet, test: DataSet
  /// Labelled images that are taken of each; nil for all.
  package var trainLimit: Int?, testLimit: Int?
  /// Whether random weights and raw pixels are evaluated too.
  package var baselines = true
  /// Leaves out test images of classes that the training set has not; else they are an error.
  package var skipsUnknown = false
  /// Bytes of memory that are free for this rank.
  package var freeMemory: Int
  package let context: Context

  /// Of the free memory, what an evaluation may take.
  package static let memoryShare = 0.75
  /// Test images whose neighbours are looked up, and how many for each.
  private static let queries = 8, neighbours = 8

  package init(_ encoder: FrozenEncoder, train: DataSet, test: DataSet, context: Context) {
    self.encoder = encoder
    self.train = train
    self.test = test
    self.context = context
    // Where it is not known, nothing is refused.
    let onNode = MemoryRoom.ofNode().map { Int($0.bytes) / context.communicator.ranksOnNode } ?? .max / 2
    let own = MemoryRoom.ofProcess().map { Int($0.bytes) } ?? .max / 2
    freeMemory = context.communicator.allReduce(min(onNode, own), .min)
  }

  /// What was found, and the training images nearest to a few test images.
  package struct Outcome {
    package var record: EvaluationRecord
    package var neighbours: [Neighbours] = []
  }

  /// A test image and the training images whose features are most similar, the nearest first.
  package struct Neighbours {
    /// Of the test set, and of the training set.
    package var query: Int, nearest: [Int]
    /// Of the query, and of its neighbours.
    package var label: Int32, nearestLabels: [Int32]

    package init(query: Int, nearest: [Int], label: Int32, nearestLabels: [Int32]) {
      self.query = query
      self.nearest = nearest
      self.label = label
      self.nearestLabels = nearestLabels
    }
  }

  /// All ranks make this call.
  /// - Parameters:
  ///   - subject: what is judged.
  ///   - say: gets a line of progress.
  /// - Throws: `RunError` before any work where labels, classes or memory do not do.
  package func run(_ subject: EvaluationRecord.Subject, _ say: (String) -> Void) throws -> Outcome {
    let train = LabelledImages(train, classes: self.train.classNames, limit: trainLimit)
    let test = LabelledImages(test, classes: self.train.classNames, limit: testLimit)
    try check(train, test)
    var notes: [String] = []
    if !test.unknown.isEmpty {
      notes.append(
        "test images of the classes \(listed(test.unknown)) are left out: the training set has none of them")
    }
    try checkMemory(train, test)
    var outcome = Outcome(
      record: EvaluationRecord(
        subject, input: encoder.input, train: .init(train), test: .init(test), classNames: self.train.classNames))
    let takesPixels = baselines && pixels(train, test).bytes <= given
    if baselines && !takesPixels {
      notes.append(
        "raw pixels are left out: they need \(byteText(pixels(train, test).bytes)) on each rank, \(byteText(given)) "
          + "are given; take fewer images with --limit and --test-limit to see them")
    }
    if encoder.sources.count > 1 {
      let names = encoder.sources.map(\.name).joined(separator: ", ")
      notes.append("features of the encoders \(names) stand side by side")
    }
    for note in notes { say("Note: \(note)") }
    outcome.record.notes = notes

    func evaluate(_ name: String, _ table: (LabelledImages) throws -> FeatureTable) throws {
      say("features of \(grouped(train.count)) + \(grouped(test.count)) images: \(name)")
      let tables = (train: try table(train), test: try table(test))
      for evaluation in Evaluations.all {
        var result = try evaluation.run(train: tables.train, test: tables.test, on: context)
        result.features = name
        outcome.record.results.append(result)
        let figures = result.scores.map { score in
          [score.name, score.text, score.intervalText].compactMap { $0 }.joined(separator: " ")
        }
        say("  \(result.title): \(figures.joined(separator: ", "))")
      }
      if name == "learned" { outcome.neighbours = neighbours(tables.train, tables.test, train, test) }
    }
    let classes = self.train.classNames.count
    let learned = FeatureExtractor(encoder.sources, context: context)
    try evaluate("learned") { try learned.table($0, classCount: classes) }
    if baselines {
      let random = FeatureExtractor(encoder.untrained(), context: context)
      try evaluate("random weights") { try random.table($0, classCount: classes) }
    }
    if takesPixels { try evaluate("raw pixels") { try learned.pixelTable($0, classCount: classes) } }
    return outcome
  }

  private func neighbours(
    _ trainTable: FeatureTable, _ testTable: FeatureTable, _ train: LabelledImages, _ test: LabelledImages
  ) -> [Neighbours] {
    guard context.communicator.isRoot else { return [] }
    let count = min(Self.queries, test.count)
    let search = NeighbourSearch(trainTable, k: min(Self.neighbours, train.count))
    return (0..<count).map { number in
      let row = number * test.count / count
      var found: [Int] = []
      search.find(testTable, row..<row + 1) { found = $2.map(Int.init) }
      return Neighbours(
        query: test.samples[row], nearest: found.map { train.samples[$0] }, label: test.labels[row],
        nearestLabels: found.map { train.labels[$0] })
    }
  }

  // MARK: What is checked before work starts

  private func check(_ train: LabelledImages, _ test: LabelledImages) throws(RunError) {
    let channels = encoder.input.imageChannels
    for set in [train.set, test.set] where set.channels != channels {
      throw RunError(
        "\(set.path) has images of \(set.channels) channels, the encoder takes \(channels): pack them "
          + "with --channels \(channels)")
    }
    for (images, what) in [(train, "training"), (test, "test")] where images.labelledCount == 0 {
      throw RunError(
        "evaluation needs labels, and none of the \(images.set.count) images of the \(what) set \(images.set.path) has "
          + "one: pack them from a folder for each class, or from a list with labels")
    }
    guard test.unknown.isEmpty || skipsUnknown else {
      throw RunError(
        "\(test.set.path) has images of the classes \(listed(test.unknown)), which \(train.set.path) has not (it has "
          + "\(listed(train.set.classNames))): name classes alike, or leave those images out with --skip-unknown")
    }
    guard !test.isEmpty else {
      throw RunError(
        "\(test.set.path) and \(train.set.path) have no class in common: \(listed(test.set.classNames)), and "
          + listed(train.set.classNames))
    }
  }

  /// Bytes that an evaluation may take on this rank.
  private var given: Int { Int(Double(freeMemory) * Self.memoryShare) }

  private func size(_ train: LabelledImages, _ test: LabelledImages, dimension: Int) -> EvaluationSize {
    EvaluationSize(
      train: train.count, test: test.count, dimension: dimension, classes: train.set.classNames.count,
      ranks: context.communicator.size, threads: context.team.count)
  }

  private func pixels(_ train: LabelledImages, _ test: LabelledImages) -> EvaluationSize {
    size(train, test, dimension: encoder.sources.reduce(0) { $0 + $1.input.pixelCount })
  }

  private func checkMemory(_ train: LabelledImages, _ test: LabelledImages) throws(RunError) {
    let extractor = FeatureExtractor(encoder.sources, context: context)
    context.dry { extractor.plan() }
    let parameters = encoder.sources.reduce(0) { $0 + $1.state.parameters.count + $1.state.statistics.count }
    let needed =
      size(train, test, dimension: extractor.dimension).bytes + context.arena.peak
      + 2 * parameters * MemoryLayout<Float>.stride
    guard needed <= given else {
      throw RunError(
        "evaluation on \(grouped(train.count)) + \(grouped(test.count)) images needs \(byteText(needed)) on each rank, "
          + "\(byteText(given)) are given, \(Int(Self.memoryShare * 100)) % of what is free: take fewer images with "
          + "--limit and --test-limit, or fewer ranks on a node")
    }
  }
}
