/// The known name that is fewest edits (insert, remove, replace, swap of neighbours) away, if that is at most about a
/// third of its letters.
package func nearest(to name: String, in known: [String]) -> String? {
  let ranked = known.map { ($0, distance(Array(name.lowercased()), Array($0.lowercased()))) }
  guard let best = ranked.min(by: { $0.1 < $1.1 }), best.1 <= max(2, best.0.count / 3) else { return nil }
  return best.0
}

/// The part of a message between what was found and what is known: `; did you mean …?`, or `;` where nothing is near.
package func suggestion(for name: String, in known: [String]) -> String {
  nearest(to: name, in: known).map { "; did you mean `\($0)`?" } ?? ";"
}

/// Optimal string alignment distance.
private func distance(_ a: [Character], _ b: [Character]) -> Int {
  var rows = [[Int]](repeating: [Int](repeating: 0, count: b.count + 1), count: a.count + 1)
  for i in 0...a.count { rows[i][0] = i }
  for j in 0...b.count { rows[0][j] = j }
  for i in 0..<a.count {
    for j in 0..<b.count {
      let replace = rows[i][j] + (a[i] == b[j] ? 0 : 1)
      rows[i + 1][j + 1] = min(replace, rows[i][j + 1] + 1, rows[i + 1][j] + 1)
      if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
        rows[i + 1][j + 1] = min(rows[i + 1][j + 1], rows[i - 1][j - 1] + 1)
      }
    }
  }
  return rows[a.count][b.count]
}
