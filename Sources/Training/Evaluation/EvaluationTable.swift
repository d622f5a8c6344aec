import Shards

/// Results side by side as plain text: one line for each evaluation and kind of features, columns aligned.
package struct EvaluationTable {
  package let results: [EvaluationResult]

  package init(_ results: [EvaluationResult]) { self.results = results }

  /// Such as `linear-v1   learned   87.12 %  [86.45, 87.76]   8712/10000   12000   256   3.1 s`.
  package var text: String {
    var rows = [["protocol", "features", "top-1", "95 % interval", "correct", "top-5", "train", "width", "time"]]
    rows += results.map(row)
    let numbers: Set = [2, 4, 5, 6, 7, 8]
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    var lines = rows.map { row in
      row.indices.map { column in
        let space = String(repeating: " ", count: widths[column] - row[column].count)
        return numbers.contains(column) ? space + row[column] : row[column] + space
      }.joined(separator: "  ")
    }.map { String($0.reversed().drop { $0 == " " }.reversed()) }
    lines.insert(String(repeating: "-", count: widths.reduce(0, +) + 2 * (widths.count - 1)), at: 1)
    let notes = results.flatMap { result in
      result.notes.map { "\(result.identifier), \(result.features.isEmpty ? result.title : result.features): \($0)" }
    }
    return (lines + notes).joined(separator: "\n")
  }

  private func row(_ result: EvaluationResult) -> [String] {
    let k = result.options["k"]?.number.map { ", k = \(Int($0))" } ?? ""
    return [
      result.identifier + k, result.features, "\(percent(result.top1)) %",
      "[\(percent(result.interval.low)), \(percent(result.interval.high))]", "\(result.correct)/\(result.testCount)",
      result.top5.map { "\(percent($0)) %" } ?? "", "\(result.trainCount)", "\(result.dimension)",
      result.timing["seconds"].map { "\(fixed($0, 1)) s" } ?? "",
    ]
  }
}
