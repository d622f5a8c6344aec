import Foundation
import Shards

/// Evaluations as tables: one for each protocol, with every interval drawn on a common scale.
struct ReportResults {
  let results: [EvaluationResult]

  init(_ results: [EvaluationResult]) { self.results = results }

  var html: String {
    var titles: [String] = []
    for result in results where !titles.contains(key(result)) { titles.append(key(result)) }
    let low = results.map(\.interval.low).min() ?? 0
    let high = results.map(\.interval.high).max() ?? 1
    let axis = Axis(low * 100, high * 100, padded: true, from: 0, to: 100, ticks: 5)
    let hasTop5 = results.contains { $0.top5 != nil }
    let head =
      "<tr><th>features</th><th class=\"n\">top-1</th><th class=\"n\">95 % interval</th>"
      + "<th class=\"plot\">\(scale(axis))</th><th class=\"n\">correct</th>"
      + (hasTop5 ? "<th class=\"n\">top-5</th>" : "")
      + "<th class=\"n\">dimensions</th></tr>"
    let bodies = titles.map { title in
      let rows = results.filter { key($0) == title }
      let best = rows.map(\.correct).max()
      return "<tbody><tr class=\"protocol\"><th colspan=\"\(hasTop5 ? 7 : 6)\"><span>\(HTML.escape(title))</span></th>"
        + "</tr>"
        + rows.map { row($0, axis, hasTop5, best: $0.correct == best && rows.count > 1) }.joined() + "</tbody>"
    }
    return "<div class=\"scroll\"><table class=\"results\"><thead>\(head)</thead>\(bodies.joined())</table></div>"
      + notes
  }

  private func key(_ result: EvaluationResult) -> String {
    "\(result.title) (\(result.identifier)), \(grouped(result.trainCount)) training and "
      + "\(grouped(result.testCount)) test images"
  }

  private func name(_ result: EvaluationResult) -> String {
    HTML.escape(result.features.isEmpty ? result.title : result.features)
  }

  private func row(_ result: EvaluationResult, _ axis: Axis, _ hasTop5: Bool, best: Bool) -> String {
    "<tr\(best ? " class=\"best\"" : "")><td>\(name(result))</td>"
      + "<td class=\"n\"><b>\(percent(result.top1)) %</b></td>"
      + "<td class=\"n\">\(percent(result.interval.low)) – \(percent(result.interval.high))</td>"
      + "<td class=\"plot\">\(whisker(result, axis))</td>"
      + "<td class=\"n\">\(grouped(result.correct)) / \(grouped(result.testCount))</td>"
      + (hasTop5 ? "<td class=\"n\">\(result.top5.map { "\(percent($0)) %" } ?? "")</td>" : "")
      + "<td class=\"n\">\(result.dimension)</td></tr>"
  }

  /// The interval as a line, top-1 as a point.
  private func whisker(_ result: EvaluationResult, _ axis: Axis) -> String {
    func x(_ share: Double) -> String { fixed(axis(share * 100), 2) + "%" }
    let interval = "\(percent(result.interval.low)) to \(percent(result.interval.high)) %"
    let text = "\(percent(result.top1)) %, 95 % interval \(interval)"
    let grid = axis.ticks.map {
      "<line class=\"grid\" x1=\"\(x($0 / 100))\" x2=\"\(x($0 / 100))\" y1=\"0\" y2=\"100%\"/>"
    }
    return "<svg role=\"img\" aria-label=\"\(text)\"><title>\(text)</title>\(grid.joined())"
      + "<line class=\"whisker\" x1=\"\(x(result.interval.low))\" x2=\"\(x(result.interval.high))\" "
      + "y1=\"50%\" y2=\"50%\"/>"
      + "<circle class=\"mean\" cx=\"\(x(result.top1))\" cy=\"50%\" r=\"4\"/></svg>"
  }

  private func scale(_ axis: Axis) -> String {
    let marks = axis.ticks.map {
      "<text class=\"tick\" x=\"\(fixed(axis($0), 2))%\" y=\"70%\" text-anchor=\"middle\">\(axis.text($0)) %</text>"
    }
    return "<svg aria-hidden=\"true\">\(marks.joined())</svg>"
  }

  private var notes: String {
    let items = results.flatMap { result in
      result.notes.map { "<li>\(HTML.escape(result.title)), \(name(result)): \(HTML.escape($0))</li>" }
    }
    return items.isEmpty ? "" : "<ul class=\"notes\">\(items.joined())</ul>"
  }

  /// Accuracy of every class by the first protocol, for each kind of features; nil without names or results.
  func classes(_ names: [String]) -> String? {
    guard let first = results.first else { return nil }
    let shown = results.filter { key($0) == key(first) }
    guard first.classes.count == names.count, shown.allSatisfy({ $0.classes.count == names.count }) else { return nil }
    let head = shown.map { "<th class=\"n\">\(name($0))</th>" }
    let rows = names.indices.map { label in
      "<tr><td>\(HTML.escape(names[label]))</td>" + shown.map { cell($0.classes[label]) }.joined()
        + "<td class=\"n\">\(grouped(first.classes[label].count))</td></tr>"
    }
    let table =
      "<div class=\"scroll\"><table class=\"classes\"><tr><th>class</th>\(head.joined())"
      + "<th class=\"n\">images</th></tr>\(rows.joined())</table></div>"
    let protocolName = HTML.escape("\(first.title) (\(first.identifier))")
    let caption = "<p>Share of each class's test images named rightly, by \(protocolName).</p>"
    return caption + (names.count > 40 ? "<details><summary>\(names.count) classes</summary>\(table)</details>" : table)
  }

  private func cell(_ found: EvaluationResult.Class) -> String {
    guard let accuracy = found.accuracy else { return "<td class=\"n\">–</td>" }
    return "<td class=\"n bar\" style=\"--share:\(fixed(accuracy * 100, 1))%\">\(fixed(accuracy * 100, 1)) %</td>"
  }
}
