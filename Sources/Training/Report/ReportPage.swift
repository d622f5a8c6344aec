import Foundation

/// The page around a report's content: one HTML file that fetches nothing.
struct ReportPage {
  let content: ReportContent

  var html: String {
    """
    <!doctype html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>\(HTML.escape(content.title))</title>
    <link rel="icon" href="data:,">
    <style>\(reportStyle)</style>
    </head>
    <body>
    <main>
    \(sections.filter { !$0.isEmpty }.joined(separator: "\n"))
    </main>
    <footer>Made by <code>apus</code> from the files of the run. One file, nothing is fetched.</footer>
    </body>
    </html>

    """
  }

  private var sections: [String] {
    [header, warnings, results, classifiers, curves, figures, grids, classes, recipe, glossary]
  }

  private func section(_ id: String, _ title: String, _ inner: String) -> String {
    "<section id=\"\(id)\"><h2>\(HTML.escape(title))</h2>\n\(inner)\n</section>"
  }

  private var header: String {
    "<header><h1>\(HTML.escape(content.title))</h1><p class=\"lead\">\(HTML.escape(content.summary))</p></header>"
  }

  private var warnings: String {
    if content.warnings.isEmpty { return "" }
    let items = content.warnings.map { "<li>\(HTML.escape($0))</li>" }.joined()
    return "<aside id=\"warnings\"><strong>Look at this first</strong><ul>\(items)</ul></aside>"
  }

  /// The encoder that was trained longest comes first.
  private var evaluations: [ReportResults] {
    let records = content.evaluations.enumerated().sorted {
      ($1.element.subject.step, $1.offset) < ($0.element.subject.step, $0.offset)
    }
    return records.map { ReportResults(record: $0.element, lastStep: content.metrics.last?.step) }
  }

  private var results: String {
    if evaluations.isEmpty { return "" }
    return section("results", "What it learned", evaluations.map(\.html).joined(separator: "\n"))
  }

  private var classifiers: String {
    content.classifiers.enumerated().map { number, record in
      let heading = "Classifier: stage \(record.subject.stageName)"
      let mistakes = record.worst.rows[0].pictures.isEmpty ? "" : pictures(record.worst)
      return section(
        "classifier\(number + 1)", heading,
        ReportConfusion(record).html + "<h3>\(HTML.escape(record.worst.title))</h3>"
          + "<p>\(HTML.escape(record.worst.text))</p>" + mistakes)
    }.joined(separator: "\n")
  }

  private var curves: String {
    let figures = ReportCurves.all(content.metrics, stages: content.stages).compactMap { chart($0) }
    if figures.isEmpty { return "" }
    return section("curves", "How it went", "<div class=\"charts\">\(figures.joined(separator: "\n"))</div>")
  }

  private var figures: String {
    if content.figures.isEmpty { return "" }
    let charts = content.figures.compactMap { chart($0.curve, $0.table) }
    let note = "<p>Points are means over repetitions, lines through them reach one deviation up and down.</p>"
    return section("figures", "Results", note + "<div class=\"charts\">\(charts.joined(separator: "\n"))</div>")
  }

  /// A curve in its frame, with what stands below it. Nil where there is nothing to draw.
  private func chart(_ curve: Curve, _ below: String = "") -> String? {
    curve.svg.map {
      "<figure><figcaption>\(HTML.escape(curve.title))\(legend(curve))</figcaption>\($0)\(below)</figure>"
    }
  }

  private func legend(_ curve: Curve) -> String {
    if curve.series.count < 2 { return "" }
    return curve.series.enumerated().map { "<span class=\"key s\($0)\">\(HTML.escape($1.name))</span>" }.joined()
  }

  private var grids: String {
    content.grids.enumerated().map { number, grid in
      let text = grid.text.isEmpty ? "" : "<p>\(HTML.escape(grid.text))</p>"
      return section("grid\(number + 1)", grid.title, text + pictures(grid))
    }.joined(separator: "\n")
  }

  private func pictures(_ grid: ReportContent.Grid) -> String {
    let rows = grid.rows.map { row in
      let name = row.name.isEmpty ? "" : "<div class=\"name\">\(HTML.escape(row.name))</div>"
      let pictures = row.pictures.map { picture($0, size: grid.size) }.joined()
      return "<div class=\"row\">\(name)<div class=\"pictures\">\(pictures)</div></div>"
    }
    // Short rows stand side by side.
    let widest = 140 + (grid.rows.map(\.pictures.count).max() ?? 0) * (grid.size + 8)
    let style = "--size:\(grid.size)px;--row:\(widest)px"
    return "<div class=\"grid\" style=\"\(style)\">\(rows.joined(separator: "\n"))</div>"
  }

  private func picture(_ picture: ReportContent.Picture, size: Int) -> String {
    let image = picture.image.reduced(to: 2 * size)  // fine enough for a dense screen
    let words = HTML.escape(picture.caption)
    // A picture without a caption is decoration to a screen reader: its row says what it is.
    let img = "<img src=\"\(image.dataURI)\" width=\"\(image.width)\" height=\"\(image.height)\" alt=\"\(words)\">"
    let caption = words.isEmpty ? "" : "<figcaption>\(words)</figcaption>"
    return "<figure class=\"\(picture.mark.rawValue)\" title=\"\(words)\">\(img)\(caption)</figure>"
  }

  private var classes: String {
    guard let table = evaluations.lazy.compactMap(\.classes).first else { return "" }
    return section("classes", "Class by class", table)
  }

  private var recipe: String {
    var inner = ""
    if !content.facts.isEmpty {
      let rows = content.facts.map { fact in
        "<div><dt>\(HTML.escape(fact.name))</dt><dd>\(HTML.escape(fact.value))</dd></div>"
      }
      inner += "<dl>\(rows.joined())</dl>"
    }
    if !content.recipe.isEmpty { inner += "<h3>Recipe</h3><pre>\(HTML.escape(content.recipe))</pre>" }
    return inner.isEmpty ? "" : section("run", "The run", inner)
  }

  private var glossary: String {
    if content.metrics.isEmpty { return "" }
    let rows = Metrics.documentation.map { key in
      "<tr><td><code>\(HTML.escape(key.name))</code></td><td>\(HTML.escape(key.unit))</td>"
        + "<td>\(HTML.escape(key.meaning))</td></tr>"
    }
    return "<details><summary>Keys of metrics.jsonl</summary><div class=\"scroll\"><table><tr><th>key</th><th>unit</th>"
      + "<th>meaning</th></tr>\(rows.joined())</table></div></details>"
  }
}
