import Engine
import Foundation
import Ranks
import Shards
import TestSupport
import Testing
import Training

/// Comparison of an encoder with random weights and raw pixels: images, classes and memory.
@Suite final class ComparisonTests: Sendable {
  let tiny: TinyRun
  let run: String

  init() throws {
    tiny = try TinyRun()
    try tiny.pack("train", count: 60)
    try tiny.pack("test", count: 40, part: 1)
    run = try tiny.train("run", on: "train")
  }

  private func compare(
    _ test: String, train: String = "train", _ communicator: any Communicator = SingleProcess(),
    _ change: (inout Comparison) -> Void = { _ in }
  ) throws -> (outcome: Comparison.Outcome, said: [String]) {
    let encoder = try FrozenEncoder(run: run, .result, communicator)
    var comparison = Comparison(
      encoder, train: try DataSet(at: tiny.folder + "/" + train), test: try DataSet(at: tiny.folder + "/" + test),
      context: Context(communicator: communicator))
    change(&comparison)
    var said: [String] = []
    let outcome = try comparison.run(encoder.subject("run")) { said.append($0) }
    return (outcome, said)
  }

  private func scores(_ outcome: Comparison.Outcome) -> [String] {
    outcome.record.results.map { "\($0.identifier) \($0.title) \($0.features) \($0.scores)" }
  }

  private func refusal(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "no error"
  }

  @Test func saysOfWhatItsFiguresAre() throws {
    let (outcome, said) = try compare("test") { $0.trainLimit = 50 }
    let record = outcome.record
    #expect(record.subject == .init(path: "run", stage: 0, stageName: "pretrain", step: 6))
    #expect(record.input == EncoderInput(size: 8, mean: [0.5], deviation: [0.3]))
    #expect(record.train.taken == 50 && record.train.count == 60 && record.test.taken == 40)
    #expect(record.train.fingerprint != record.test.fingerprint && record.classNames == ["a", "b", "c"])
    #expect(record.results.map(\.features) == ["learned", "random weights", "raw pixels"].flatMap { [$0, $0, $0] })
    #expect(record.results.allSatisfy { $0.trainCount == 50 && $0.testCount == 40 && $0.main.name == "top-1" })
    #expect(record.results[2].options["k"] == .number(20) && record.notes.isEmpty && said.count == 12)
    #expect(
      record.heading == "After step 6 (stage 0, pretrain): learned from 50 of 60 images of \(tiny.folder)/train, "
        + "judged on 40 images of \(tiny.folder)/test")
    #expect(record.summary.hasPrefix("After step 6 (stage 0, pretrain), the linear probe reaches top-1 "))
    #expect(outcome.neighbours.count == 8 && outcome.neighbours.allSatisfy { $0.nearest.count == 8 })
    let again = try JSONDecoder().decode(EvaluationRecord.self, from: JSONEncoder().encode(record))
    #expect(again == record)
  }

  @Test func ranksGetTheSame() throws {
    // Only kNN is compared: the probe's last iterations depend on rounding, which depends on the ranks.
    @Sendable func neighbours(_ communicator: any Communicator) throws -> [String] {
      scores(try compare("test", communicator).outcome).filter { $0.hasPrefix("knn") }
    }
    let one = try neighbours(SingleProcess())
    #expect(one.count == 6)
    for ranks in [2, 3] {
      for found in try Ranks.run(ranks, { try neighbours($0) }) { #expect(found == one, "\(ranks) ranks") }
    }
  }

  // MARK: Classes

  /// Classes are matched by name, with two of three classes in another order.
  @Test func classesAreMatchedByTheirNames() throws {
    try tiny.pack("straight", count: 40, classes: ["a", "b", "c"], shown: ["a", "c"], part: 1)
    try tiny.pack("turned", count: 40, classes: ["c", "a"], shown: ["a", "c"], part: 1)
    let straight = try compare("straight").outcome
    #expect(scores(try compare("turned").outcome) == scores(straight))
    let classes = try #require(straight.record.results.first).classes
    #expect(classes.map(\.count) == [20, 0, 20] && classes[1].value == nil)
  }

  @Test func unknownClassesAreRefusedOrLeftOut() throws {
    try tiny.pack("more", count: 40, classes: ["a", "b", "c", "d"], part: 1)
    try tiny.pack("fewer", count: 30, classes: ["d"], part: 1)
    let words = refusal { _ = try compare("more") }
    #expect(
      words == "\(tiny.folder)/more has images of the classes `d`, which \(tiny.folder)/train has not (it has `a`, "
        + "`b`, `c`): name classes alike, or leave those images out with --skip-unknown")
    let (outcome, said) = try compare("more") { $0.skipsUnknown = true }
    #expect(outcome.record.test.taken == 30 && outcome.record.test.count == 40)
    #expect(outcome.record.notes.count == 1 && said.contains("Note: " + outcome.record.notes[0]))
    #expect(outcome.record.notes[0].hasPrefix("test images of the classes `d` are left out"))
    let none = refusal { _ = try compare("fewer") { $0.skipsUnknown = true } }
    #expect(none.contains("have no class in common: `d`, and `a`, `b`, `c`"))
  }

  @Test func whatLacksLabelsIsNamed() throws {
    try tiny.pack("bare", count: 30, labelled: false)
    #expect(
      refusal { _ = try compare("bare") } == "evaluation needs labels, and none of the 30 images of the test set "
        + "\(tiny.folder)/bare has one: pack them from a folder for each class, or from a list with labels")
    let training = refusal { _ = try compare("test", train: "bare") }
    #expect(training.contains("of the training set \(tiny.folder)/bare has one"))
  }

  /// The monitor leaves out images of unknown classes, and the run gives a notice before it trains.
  @Test func theMonitorMatchesNamesToo() throws {
    try tiny.pack("more", count: 40, classes: ["d", "c", "b", "a"], part: 1)
    let recipe = try TinyRun.recipe()
    let stageRun = try StageRun(
      recipe.stages[0], data: try DataSet(at: tiny.folder + "/train"), heldOut: try DataSet(at: tiny.folder + "/more"),
      seed: 1, index: 0, Context())
    #expect(stageRun.notices.contains { $0.hasPrefix("kNN while training leaves out the classes `d`, which") })
    let watched = try tiny.train("watched", on: "train", test: "more")
    #expect(try MetricsFile.read(watched + "/metrics.jsonl").contains { $0["knn_top1"] != nil })
  }

  // MARK: Memory

  /// An evaluation of 50,000 photographs of 224 px with ResNet-50 on 8 ranks of 4 GiB, as in the documentation, fits
  /// without raw pixels.
  @Test func photographsFitOnSmallRanks() {
    let given = Int(Comparison.memoryShare * 4 * Double(1 << 30))
    let features = EvaluationSize(
      train: 50_000, test: 50_000, dimension: 2048, classes: 1000, ranks: 8, threads: 1)
    let state = 2 * 24_000_000 * 4
    // Activations of 32 images: the maps of a block and their sum, at 112 × 112 × 64.
    let arena = 4 * 32 * 112 * 112 * 64 * 4
    #expect(features.bytes + state + arena < given)
    let pixels = EvaluationSize(
      train: 50_000, test: 50_000, dimension: 224 * 224 * 3, classes: 1000, ranks: 8, threads: 1)
    #expect(pixels.bytes > 10 * given)
  }

  @Test func rawPixelsAreLeftOutBeforeMemoryIsExceeded() throws {
    let pixels = EvaluationSize(train: 60, test: 40, dimension: 64, classes: 3).bytes
    // The encoder takes more memory than these small images, so leave room for it.
    try tiny.pack("large", count: 6000)
    let all = EvaluationSize(train: 6000, test: 40, dimension: 64, classes: 3).bytes
    #expect(pixels < all)
    let (outcome, said) = try compare("test", train: "large") {
      $0.freeMemory = Int(Double(all) / Comparison.memoryShare) - 8
    }
    #expect(outcome.record.results.allSatisfy { $0.features != "raw pixels" } && outcome.record.results.count == 6)
    #expect(outcome.record.notes.count == 1 && outcome.record.notes[0].hasPrefix("raw pixels are left out: they need "))
    #expect(said.contains("Note: " + outcome.record.notes[0]))
  }

  @Test func whatDoesNotFitIsRefusedBeforeWorkStarts() throws {
    var said: [String] = []
    let words = refusal {
      let encoder = try FrozenEncoder(run: run)
      var comparison = Comparison(
        encoder, train: try DataSet(at: tiny.folder + "/train"), test: try DataSet(at: tiny.folder + "/test"),
        context: Context())
      comparison.freeMemory = 1 << 16
      _ = try comparison.run(encoder.subject("run")) { said.append($0) }
    }
    #expect(words.hasPrefix("evaluation on 60 + 40 images needs "))
    #expect(words.contains("on each rank, 48.0 KiB are given, 75 % of what is free: take fewer images with --limit"))
    #expect(said.isEmpty)
  }
}

/// An evaluation with other scores than top-1: tables, report and files show the scores by name.
@Suite struct ScoreTests {
  /// Share of test rows with a row of their class among the 3 nearest, and a fixed number as second score.
  private struct Retrieval: Evaluation {
    static let name = "retrieval"
    static let version = 1
    var title: String { "retrieval" }
    func workspace(_ job: EvaluationSize) -> Int { 0 }
    func run(train: FeatureTable, test: FeatureTable, on context: Context) throws -> EvaluationResult {
      let start = ContinuousClock().now
      var hits = 0
      let search = NeighbourSearch(train, k: 3)
      for row in 0..<test.count {
        search.find(test, row..<row + 1) { _, _, indices in
          if indices.contains(where: { train.labels[Int($0)] == test.labels[row] }) { hits += 1 }
        }
      }
      return EvaluationResult(
        self, train: train, test: test, scores: [Score("R²", 0.41234), Score("recall@3", hits: hits, of: test.count)],
        since: start)
    }
  }

  private func result() throws -> EvaluationResult {
    let table = FeatureTable.clouds(count: 60, dimension: 4, classes: 3, spread: 0.2, part: 0)
    var result = try Retrieval().run(train: table, test: table, communicator: SingleProcess())
    result.features = "learned"
    result.timing = ["seconds": 1]
    return result
  }

  @Test func tablesShowScoresByName() throws {
    let other = try EvaluationResult.sample("linear", "learned", correct: 8712, of: 10_000)
    let lines = EvaluationTable([try result(), other]).text.split(separator: "\n").map(String.init)
    func cells(_ line: String) -> [String] { line.split(separator: /[ ]{2,}/).map { String($0) } }
    #expect(
      cells(lines[0]) == [
        "protocol", "features", "R²", "recall@3", "95 % interval", "correct", "top-1", "95 % interval", "correct",
        "top-5", "train", "width", "time",
      ])
    #expect(
      cells(lines[2]) == [
        "retrieval-v1", "learned", "0.4123", "100.00 %", "[93.98, 100.00]", "60/60", "60", "4", "1.0 s",
      ])
    #expect(
      cells(lines[3]) == [
        "linear-v1", "learned", "87.12 %", "[86.45, 87.76]", "8712/10000", "98.00 %", "12000", "128", "3.2 s",
      ])
    // A score is below its name, even if other results lack some scores.
    let place = lines[0][..<lines[0].range(of: "top-5")!.upperBound].count
    #expect(lines[3].prefix(place).hasSuffix("98.00 %"), "\(lines)")
  }

  @Test func reportsShowScoresByName() throws {
    var content = ReportContent(title: "", summary: "")
    let other = try EvaluationResult.sample("linear", "learned", correct: 8712, of: 10_000)
    content.evaluations = [.sample([try result(), other])]
    let html = Report.html(content)
    #expect(html.contains("<th class=\"n\">R²</th>") && html.contains("<b>0.4123</b>"))
    #expect(html.contains("<th class=\"n\">recall@3</th>") && html.contains("<td class=\"n\">100.00 %</td>"))
    // Values of different kinds have separate tables and axes.
    #expect(html.components(separatedBy: "<table class=\"results\">").count - 1 == 2)
    #expect(html.contains("<b>87.12 %</b>"))
    #expect(content.evaluations[0].summary.contains("the retrieval reaches R² 0.4123 on the learned features"))
  }

  @Test func filesKeepScores() throws {
    let one = try result()
    #expect(try JSONDecoder().decode(EvaluationResult.self, from: one.json()) == one)
    let text = String(decoding: try one.json(), as: UTF8.self)
    #expect(text.contains("\"name\" : \"recall@3\"") && !text.contains("top1"))
  }
}
