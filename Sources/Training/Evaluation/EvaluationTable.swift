import Shards

/// Results side by side as plain text: one line for each evaluation and kind of features, columns aligned. Each score
/// has a column of its own, followed by its interval and its counts where any result has them.
package struct EvaluationTable {
  package let results: [EvaluationResult]

  package init(_ results: [EvaluationResult]) { self.results = results }

  private struct Column {
    let title: String
    var alignsRight = true
    let cell: (EvaluationResult) -> String
  }

  private var columns: [Column] {
    let protocols = Column(title: "protocol", alignsRight: false) { result in
      result.identifier + (result.options["k"]?.number.map { ", k = \(Int($0))" } ?? "")
    }
    let features = Column(title: "features", alignsRight: false, cell: \.features)
    let train = Column(title: "train") { "\($0.trainCount)" }
    let width = Column(title: "width") { "\($0.dimension)" }
    let time = Column(title: "time") { $0.timing["seconds"].map { "\(fixed($0, 1)) s" } ?? "" }
    return [protocols, features] + scoreNames.flatMap(columns) + [train, width, time]
  }

  /// In the order in which they first come.
  private var scoreNames: [String] {
    var names: [String] = []
    for score in results.flatMap(\.scores) where !names.contains(score.name) { names.append(score.name) }
    return names
  }

  /// A score, its interval and its counts.
  private func columns(of name: String) -> [Column] {
    let scores = results.compactMap { $0.score(name) }
    var columns = [Column(title: name) { $0.score(name)?.text ?? "" }]
    if scores.contains(where: { $0.interval != nil }) {
      columns.append(Column(title: "95 % interval", alignsRight: false) { $0.score(name)?.intervalText ?? "" })
    }
    if scores.contains(where: { $0.hits != nil }) {
      columns.append(
        Column(title: "correct") { result in
          guard let score = result.score(name), let hits = score.hits, let trials = score.trials else { return "" }
          return "\(hits)/\(trials)"
        })
    }
    return columns
  }

  /// Such as `linear-v1   learned   87.12 %  [86.45, 87.76]   8712/10000   98.00 %  12000   256   3.1 s`.
  package var text: String {
    let columns = columns
    let rows = [columns.map(\.title)] + results.map { result in columns.map { $0.cell(result) } }
    let widths = columns.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    var lines = rows.map { row in
      let cells = row.indices.map { column in
        let space = String(repeating: " ", count: widths[column] - row[column].count)
        return columns[column].alignsRight ? space + row[column] : row[column] + space
      }
      return withoutTrailingSpace(cells.joined(separator: "  "))
    }
    lines.insert(String(repeating: "-", count: widths.reduce(0, +) + 2 * (widths.count - 1)), at: 1)
    let notes = results.flatMap { result in
      result.notes.map { "\(result.identifier), \(result.features.isEmpty ? result.title : result.features): \($0)" }
    }
    return (lines + notes).joined(separator: "\n")
  }

  private func withoutTrailingSpace(_ line: String) -> String {
    var line = line
    while line.last == " " { line.removeLast() }
    return line
  }
}
