import Files
import Foundation

/// Files of a run folder that a report is made from, beside `recipe.yaml` and `metrics.jsonl`.
package enum RunFiles {
  /// Evaluations, in the order in which they were made; a repeated one replaces its elder.
  package static let evaluations = "evaluations.json"
  /// What the report shows that only the data could give: title, facts, class names, pictures.
  package static let exhibits = "exhibits.json"

  /// Adds results to the run's evaluations.
  package static func add(_ results: [EvaluationResult], to run: String) throws(ReportError) {
    var all = try evaluations(of: run)
    for result in results {
      all.removeAll { ($0.identifier, $0.title, $0.features) == (result.identifier, result.title, result.features) }
      all.append(result)
    }
    try write(all, run + "/" + evaluations)
  }

  package static func evaluations(of run: String) throws(ReportError) -> [EvaluationResult] {
    try read([EvaluationResult].self, run + "/" + evaluations) ?? []
  }

  package static func write(_ exhibits: ReportExhibits, to run: String) throws(ReportError) {
    try write(exhibits, run + "/" + self.exhibits)
  }

  package static func exhibits(of run: String) throws(ReportError) -> ReportExhibits? {
    try read(ReportExhibits.self, run + "/" + exhibits)
  }

  private static func write(_ value: some Encodable, _ path: String) throws(ReportError) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    do {
      try AtomicFile.write(Array(encoder.encode(value)), to: path)
    } catch { throw ReportError(description: "\(error)") }
  }

  /// Nil where there is no such file.
  private static func read<T: Decodable>(_ type: T.Type, _ path: String) throws(ReportError) -> T? {
    if !FileManager.default.fileExists(atPath: path) { return nil }
    do { return try JSONDecoder().decode(type, from: Data(contentsOf: URL(fileURLWithPath: path))) } catch {
      throw ReportError(description: "cannot read \(path): \(error); remove the file and evaluate again")
    }
  }
}

/// What the report shows that only the data could give.
package struct ReportExhibits: Codable, Sendable, Equatable {
  package var title: String
  package var summary: String
  package var facts: [ReportContent.Fact]
  package var classNames: [String]
  package var grids: [ReportContent.Grid]

  package init(
    title: String, summary: String, facts: [ReportContent.Fact] = [], classNames: [String] = [],
    grids: [ReportContent.Grid] = []
  ) {
    self.title = title
    self.summary = summary
    self.facts = facts
    self.classNames = classNames
    self.grids = grids
  }
}

extension ReportContent {
  /// Gathers a run folder's files; what is not there yet is left out.
  package init(run: String) throws {
    let exhibits = try RunFiles.exhibits(of: run)
    self.init(
      title: exhibits?.title ?? URL(fileURLWithPath: run).lastPathComponent, summary: exhibits?.summary ?? "")
    facts = exhibits?.facts ?? []
    classNames = exhibits?.classNames ?? []
    grids = exhibits?.grids ?? []
    evaluations = try RunFiles.evaluations(of: run)
    let path = run + "/metrics.jsonl"
    if FileManager.default.fileExists(atPath: path) { metrics = try MetricsFile.read(path) }
    if let text = try? String(contentsOfFile: run + "/recipe.yaml", encoding: .utf8) { recipe = text }
    // Only what the run said last: an early warning that went away is no news.
    warnings = (metrics.last?.values["warnings"]?.list ?? []).compactMap(\.text)
    if !FileManager.default.fileExists(atPath: run + "/complete") {
      warnings.insert("this run is not finished: the file `complete` is missing from its folder", at: 0)
    }
  }
}
