import Files
import Foundation

/// Files of a run folder that a report is made from, beside `recipe.yaml` and `metrics.jsonl`.
package enum RunFiles {
  /// What evaluations found, in the order in which they were made.
  package static let evaluations = "evaluations.json"
  /// How the classifiers do that a run's stages trained.
  package static let classifiers = "classifiers.json"
  /// What the report shows that only the data could give: title, facts, pictures.
  package static let exhibits = "exhibits.json"

  /// What `evaluations.json` holds.
  private struct Evaluations: Codable {
    var format = 2
    var evaluations: [EvaluationRecord]
  }

  /// Adds what an evaluation found to the run's. Results of the same encoder on the same images come into one record;
  /// a repeated one replaces its elder.
  package static func add(_ record: EvaluationRecord, to run: String) throws(ReportError) {
    var all = try evaluations(of: run)
    if let place = all.firstIndex(where: { $0.belongs(with: record) }) {
      var joined = all.remove(at: place)
      joined.notes = record.notes
      for result in record.results {
        joined.results.removeAll {
          ($0.identifier, $0.title, $0.features) == (result.identifier, result.title, result.features)
        }
        joined.results.append(result)
      }
      all.append(joined)
    } else {
      all.append(record)
    }
    try write(Evaluations(evaluations: all), run + "/" + evaluations)
  }

  /// What evaluations found. Empty for a file of an earlier version; see `hasOldEvaluations`.
  package static func evaluations(of run: String) throws(ReportError) -> [EvaluationRecord] {
    if hasOldEvaluations(run) { return [] }
    return try read(Evaluations.self, run + "/" + evaluations)?.evaluations ?? []
  }

  /// Whether the run's evaluations are of an earlier version: a list of results that do not say what was judged.
  package static func hasOldEvaluations(_ run: String) -> Bool {
    guard let data = FileManager.default.contents(atPath: run + "/" + evaluations) else { return false }
    return (try? JSONDecoder().decode(JSONValue.self, from: data))?.list != nil
  }

  /// Adds how a stage's classifier does; what was known of that stage is replaced.
  package static func add(_ record: ClassifierRecord, to run: String) throws(ReportError) {
    let others = try classifiers(of: run).filter { $0.subject.stage != record.subject.stage }
    let all = (others + [record]).sorted { $0.subject.stage < $1.subject.stage }
    try write(all, run + "/" + classifiers)
  }

  /// How the classifiers of a run do, by stage.
  package static func classifiers(of run: String) throws(ReportError) -> [ClassifierRecord] {
    try read([ClassifierRecord].self, run + "/" + classifiers) ?? []
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
  package var grids: [ReportContent.Grid]

  package init(
    title: String, summary: String, facts: [ReportContent.Fact] = [], grids: [ReportContent.Grid] = []
  ) {
    self.title = title
    self.summary = summary
    self.facts = facts
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
    grids = exhibits?.grids ?? []
    evaluations = try RunFiles.evaluations(of: run)
    classifiers = try RunFiles.classifiers(of: run)
    if evaluations.isEmpty, let last = classifiers.last { summary = last.summary }
    let folder = RunFolder(run)
    let files = FileManager.default
    if files.fileExists(atPath: folder.metrics) { metrics = try MetricsFile.read(folder.metrics) }
    if let text = try? String(contentsOfFile: folder.recipe, encoding: .utf8) {
      recipe = text
      stages = ((try? Recipe(yaml: text, from: run))?.stages ?? []).map(\.name)
    }
    // What the last logged step said: an early warning that went away is no news. Other lines, such as the monitor's,
    // say nothing of health.
    let last = metrics.last { $0["loss"] != nil }
    warnings = (last?.values["warnings"]?.list ?? []).compactMap(\.text)
    if RunFiles.hasOldEvaluations(run) {
      warnings.append(
        "\(RunFiles.evaluations) is of an earlier version, which did not write down what was judged: it is left out; "
          + "evaluate again")
    }
    if !folder.isComplete {
      warnings.insert("this run is not finished: the file `complete` is missing from its folder", at: 0)
    }
  }
}
