import ArgumentParser
import Training

struct FigureCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "figure",
    abstract: "Draw results of several runs as curves, on a page like a report.",
    discussion: """
      POINTS holds a JSON object a line: figure, curve, x, y, and where wanted unit, axis and scale (linear or log). \
      Lines that differ in y alone are repetitions: their mean is drawn, with the deviation. Scripts/mechanisms writes \
      such a file.
      """)

  @Argument(help: "File of points.")
  var points: String

  @Argument(help: "Page to write, such as figure.html.")
  var out: String

  @Option(help: "The page's title.")
  var title = "Figures"

  @Option(help: "A sentence below the title.")
  var summary = ""

  func run() throws {
    var content = ReportContent(title: title, summary: summary)
    content.figures = try Figure.read(points)
    try Report.write(content, to: out)
    print("The page is \(out)")
  }
}
