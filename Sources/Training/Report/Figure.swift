import Foundation
import Shards

/// Results of several runs as curves: at each x the mean of its repetitions, with their deviation.
///
/// They come from a file with a JSON object a line:
///
///     {"figure": "Probe", "curve": "queue", "x": 256, "y": 41.5, "unit": "%", "axis": "negatives", "scale": "log"}
///
/// `figure` is a title; lines with the same figure, curve and x are repetitions, such as other seeds. `unit`, `axis`
/// (the name of x) and `scale` (of x: linear or log) are a figure's own, and its first line says them. Further keys are
/// passed over.
package struct Figure: Sendable {
  /// What was measured at one x of one curve.
  package struct Place: Sendable, Equatable {
    package var x: Double
    package var values: [Double]
    package var mean: Double { values.reduce(0, +) / Double(values.count) }
    /// Of the sample, by n − 1. Nil for a single value.
    package var deviation: Double? {
      if values.count < 2 { return nil }
      let centre = mean
      return (values.reduce(0) { $0 + ($1 - centre) * ($1 - centre) } / Double(values.count - 1)).squareRoot()
    }
  }

  package var title: String
  package var unit: String
  package var axis: String
  package var isLogarithmic: Bool
  /// In the order of the file; places by rising x.
  package var curves: [(name: String, places: [Place])]

  /// As many as the style sheet has colours.
  private static let mostCurves = 4

  /// The figures of a file, in its order.
  package static func read(_ path: String) throws(ReportError) -> [Figure] {
    guard let data = FileManager.default.contents(atPath: path), let text = String(data: data, encoding: .utf8) else {
      throw ReportError(description: "cannot read the points of a figure from \(path): it is no file of UTF-8 text")
    }
    var figures: [Figure] = []
    for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      if line.allSatisfy(\.isWhitespace) { continue }
      func wrong(_ what: String) -> ReportError {
        ReportError(description: "cannot draw line \(number + 1) of \(path): \(what)")
      }
      guard let object = (try? JSONDecoder().decode(JSONValue.self, from: Data(line.utf8)))?.object else {
        throw wrong("it is no JSON object")
      }
      guard let title = object["figure"]?.text, let name = object["curve"]?.text, let x = object["x"]?.number,
        let y = object["y"]?.number
      else { throw wrong("it needs `figure` and `curve`, which are texts, and `x` and `y`, which are numbers") }
      let scale = object["scale"]?.text ?? "linear"
      guard ["linear", "log"].contains(scale) else { throw wrong("its scale is `\(scale)`; it can be linear or log") }
      if !figures.contains(where: { $0.title == title }) {
        figures.append(
          Figure(
            title: title, unit: object["unit"]?.text ?? "", axis: object["axis"]?.text ?? "x",
            isLogarithmic: scale == "log", curves: []))
      }
      let index = figures.firstIndex { $0.title == title }!
      if figures[index].isLogarithmic, x <= 0 {
        throw wrong("x is \(significant(x)), and a log scale shows what is above 0")
      }
      figures[index].add(x, y, to: name)
      if figures[index].curves.count > mostCurves {
        throw wrong("`\(title)` has more than \(mostCurves) curves; spread them over several figures")
      }
    }
    if figures.isEmpty { throw ReportError(description: "cannot draw \(path): it holds no points") }
    return figures
  }

  private mutating func add(_ x: Double, _ y: Double, to name: String) {
    if !curves.contains(where: { $0.name == name }) { curves.append((name, [])) }
    let index = curves.firstIndex { $0.name == name }!
    if let place = curves[index].places.firstIndex(where: { $0.x == x }) {
      curves[index].places[place].values.append(y)
    } else {
      curves[index].places.append(Place(x: x, values: [y]))
      curves[index].places.sort { $0.x < $1.x }
    }
  }

  /// The means, with lines as long as a deviation above and below.
  package var curve: Curve {
    var curve = Curve(
      title, unit: unit, x: axis,
      curves.map { name, places in
        Curve.Series(name, places.map { ($0.x, $0.mean) }, spread: places.map { $0.deviation ?? 0 })
      })
    curve.isLogarithmic = isLogarithmic
    return curve
  }

  /// A row for each curve, a column for each x.
  package var table: String {
    let columns = Set(curves.flatMap { $0.places.map(\.x) }).sorted()
    let head = columns.map { "<th class=\"n\">\(significant($0))</th>" }.joined()
    let rows = curves.map { name, places in
      let cells = columns.map { x in "<td class=\"n\">\(places.first { $0.x == x }.map(Self.words) ?? "")</td>" }
      return "<tr><td>\(HTML.escape(name))</td>\(cells.joined())</tr>"
    }
    return "<div class=\"scroll\"><table><thead><tr><th>\(HTML.escape(axis))</th>\(head)</tr></thead>"
      + "<tbody>\(rows.joined())</tbody></table></div>"
  }

  private static func words(_ place: Place) -> String {
    fixed(place.mean, 1) + (place.deviation.map { " ± \(fixed($0, 1))" } ?? "")
  }
}
