import Foundation
import Shards

/// Evaluations as tables: one for each encoder and pair of sets, with every interval drawn on a scale that is common to
/// the protocols of a score.
struct ReportResults {
  let record: EvaluationRecord
  /// Steps that the run has done by now; nil where it is not known.
  let lastStep: Int?

  /// The record's heading, and a table for each main score.
  var html: String {
    var names: [String] = []
    for result in record.results where !names.contains(result.main.name) { names.append(result.main.name) }
    let tables = names.map { name in table(record.results.filter { $0.main.name == name }) }
    return heading + tables.joined(separator: "\n") + notes
  }

  private var heading: String {
    let isEarlier = lastStep.map { record.subject.step < $0 } ?? false
    let mark = isEarlier ? " – an earlier step: the run is at step \(lastStep ?? 0)" : ""
    return "<h3>\(HTML.escape(record.origin + mark))</h3>"
      + "<p>\(HTML.escape(record.data.prefix(1).uppercased() + record.data.dropFirst())).</p>"
  }

  /// Results whose main score is the same.
  private func table(_ results: [EvaluationResult]) -> String {
    let axis = axis(results.map(\.main))
    let others = otherScores(results)
    let hasCounts = results.contains { $0.main.hits != nil }
    let head = [
      "<th>features</th>", "<th class=\"n\">\(HTML.escape(results[0].main.name))</th>",
      "<th class=\"n\">95 % interval</th>", "<th class=\"plot\">\(scale(axis, results[0].main.unit))</th>",
      hasCounts ? "<th class=\"n\">correct</th>" : "",
      others.map { "<th class=\"n\">\(HTML.escape($0))</th>" }.joined(), "<th class=\"n\">dimensions</th>",
    ]
    let columns = 5 + (hasCounts ? 1 : 0) + others.count
    var titles: [String] = []
    for result in results where !titles.contains(title(result)) { titles.append(title(result)) }
    let bodies = titles.map { title in
      let rows = results.filter { self.title($0) == title }
      let best = rows.map(\.main.value).max()
      let lines = rows.map { result in
        row(
          result, axis, others: others, hasCounts: hasCounts, isBest: result.main.value == best && rows.count > 1)
      }
      return "<tbody><tr class=\"protocol\"><th colspan=\"\(columns)\"><span>\(HTML.escape(title))</span></th></tr>"
        + lines.joined() + "</tbody>"
    }
    return "<div class=\"scroll\"><table class=\"results\"><thead><tr>\(head.joined())</tr></thead>\(bodies.joined())"
      + "</table></div>"
  }

  private func axis(_ scores: [Score]) -> Axis {
    let low = scores.map { $0.plotted($0.interval?.low ?? $0.value) }.min() ?? 0
    let high = scores.map { $0.plotted($0.interval?.high ?? $0.value) }.max() ?? 1
    return Axis(low, high, padded: true, from: 0, to: 100, ticks: 5)
  }

  /// Names of the scores beside the main ones, in the order in which they first come.
  private func otherScores(_ results: [EvaluationResult]) -> [String] {
    var names: [String] = []
    for score in results.flatMap({ $0.scores.dropFirst() }) where !names.contains(score.name) {
      names.append(score.name)
    }
    return names
  }

  private func title(_ result: EvaluationResult) -> String {
    "\(result.title) (\(result.identifier)), \(grouped(result.trainCount)) training and "
      + "\(grouped(result.testCount)) test images"
  }

  private func name(_ result: EvaluationResult) -> String {
    HTML.escape(result.features.isEmpty ? result.title : result.features)
  }

  private func row(
    _ result: EvaluationResult, _ axis: Axis, others: [String], hasCounts: Bool, isBest: Bool
  ) -> String {
    let score = result.main
    let interval = score.interval.map { "\(score.words($0.low)) – \(score.words($0.high))" } ?? ""
    var counts = ""
    if hasCounts, let hits = score.hits, let trials = score.trials { counts = "\(grouped(hits)) / \(grouped(trials))" }
    let cells = [
      "<td>\(name(result))</td>", "<td class=\"n\"><b>\(score.text)</b></td>", "<td class=\"n\">\(interval)</td>",
      "<td class=\"plot\">\(whisker(score, axis))</td>", hasCounts ? "<td class=\"n\">\(counts)</td>" : "",
      others.map { "<td class=\"n\">\(result.score($0)?.text ?? "")</td>" }.joined(),
      "<td class=\"n\">\(result.dimension)</td>",
    ]
    return "<tr\(isBest ? " class=\"best\"" : "")>\(cells.joined())</tr>"
  }

  /// The interval as a line, the value as a point.
  private func whisker(_ score: Score, _ axis: Axis) -> String {
    func x(_ value: Double) -> String { fixed(axis(score.plotted(value)), 2) + "%" }
    let unit = score.unit.rawValue.isEmpty ? "" : " \(score.unit.rawValue)"
    var text = score.text
    var line = ""
    if let interval = score.interval {
      text += ", 95 % interval \(score.words(interval.low)) to \(score.words(interval.high))\(unit)"
      line =
        "<line class=\"whisker\" x1=\"\(x(interval.low))\" x2=\"\(x(interval.high))\" y1=\"50%\" y2=\"50%\"/>"
    }
    let grid = axis.ticks.map { tick in
      let place = fixed(axis(tick), 2) + "%"
      return "<line class=\"grid\" x1=\"\(place)\" x2=\"\(place)\" y1=\"0\" y2=\"100%\"/>"
    }
    return "<svg role=\"img\" aria-label=\"\(text)\"><title>\(text)</title>\(grid.joined())\(line)"
      + "<circle class=\"mean\" cx=\"\(x(score.value))\" cy=\"50%\" r=\"4\"/></svg>"
  }

  private func scale(_ axis: Axis, _ unit: Score.Unit) -> String {
    let sign = unit.rawValue.isEmpty ? "" : " \(unit.rawValue)"
    let marks = axis.ticks.map {
      "<text class=\"tick\" x=\"\(fixed(axis($0), 2))%\" y=\"70%\" text-anchor=\"middle\">"
        + "\(axis.text($0))\(sign)</text>"
    }
    return "<svg aria-hidden=\"true\">\(marks.joined())</svg>"
  }

  private var notes: String {
    let own = record.notes.map { "<li>\(HTML.escape($0))</li>" }
    let items = record.results.flatMap { result in
      result.notes.map { "<li>\(HTML.escape(result.title)), \(name(result)): \(HTML.escape($0))</li>" }
    }
    return own.isEmpty && items.isEmpty ? "" : "<ul class=\"notes\">\((own + items).joined())</ul>"
  }

  /// The main score of every class by the first protocol, for each kind of features; nil where it has none.
  var classes: String? {
    let names = record.classNames
    guard let first = record.results.first(where: { !$0.classes.isEmpty }) else { return nil }
    let shown = record.results.filter { title($0) == title(first) }
    guard !names.isEmpty, shown.allSatisfy({ $0.classes.count == names.count }) else { return nil }
    let head = shown.map { "<th class=\"n\">\(name($0))</th>" }
    let rows = names.indices.map { label in
      let cells = shown.map { cell($0.classes[label], $0.main) }
      return "<tr><td>\(HTML.escape(names[label]))</td>" + cells.joined()
        + "<td class=\"n\">\(grouped(first.classes[label].count))</td></tr>"
    }
    let table =
      "<div class=\"scroll\"><table class=\"classes\"><tr><th>class</th>\(head.joined())"
      + "<th class=\"n\">images</th></tr>\(rows.joined())</table></div>"
    let caption =
      "\(first.main.name) on each class's test images, by \(first.title) (\(first.identifier)). \(record.origin)."
    let text = "<p>\(HTML.escape(caption.prefix(1).uppercased() + caption.dropFirst()))</p>"
    return text + (names.count > 40 ? "<details><summary>\(names.count) classes</summary>\(table)</details>" : table)
  }

  private func cell(_ found: EvaluationResult.Class, _ score: Score) -> String {
    guard let value = found.value else { return "<td class=\"n\">–</td>" }
    guard score.unit == .share else { return "<td class=\"n\">\(score.words(value))</td>" }
    let share = fixed(value * 100, 1)
    return "<td class=\"n bar\" style=\"--share:\(share)%\">\(share) %</td>"
  }
}
