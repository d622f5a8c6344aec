import Foundation
import Testing
import Training

/// Figures drawn from the points of several runs.
@Suite struct FigureTests {
  private func figures(_ text: String) throws -> [Figure] {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString).jsonl").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    try text.write(toFile: path, atomically: true, encoding: .utf8)
    return try Figure.read(path)
  }

  static let points = """
    {"figure":"Probe","curve":"queue","x":1024,"y":44,"unit":"%","axis":"negatives","scale":"log","seed":1}
    {"figure":"Probe","curve":"bank","x":64,"y":30,"scale":"log"}

    {"figure":"Probe","curve":"queue","x":64,"y":40,"scale":"log"}
    {"figure":"Probe","curve":"queue","x":64,"y":43,"scale":"log"}
    {"figure":"Probe","curve":"queue","x":64,"y":46,"scale":"log"}
    {"figure":"<b>","curve":"m","x":0,"y":1.5}
    """

  @Test func repetitionsBecomeMeanAndDeviation() throws {
    let all = try figures(Self.points)
    #expect(all.map(\.title) == ["Probe", "<b>"])
    #expect(all[0].unit == "%" && all[0].axis == "negatives" && all[0].isLogarithmic && !all[1].isLogarithmic)
    #expect(all[0].curves.map(\.name) == ["queue", "bank"])
    let places = all[0].curves[0].places
    #expect(places.map(\.x) == [64, 1024])
    // 40, 43, 46: deviation √((9 + 0 + 9) / 2)
    #expect(places[0].mean == 43 && places[0].deviation == 3 && places[1].mean == 44 && places[1].deviation == nil)
    #expect(all[0].table.contains("<tr><td>queue</td><td class=\"n\">43.0 ± 3.0</td><td class=\"n\">44.0</td></tr>"))
    #expect(all[0].table.contains("<tr><td>bank</td><td class=\"n\">30.0</td><td class=\"n\"></td></tr>"))
  }

  /// On a logarithmic axis 64, 256 and 1024 are equally spaced, and error bars have the length of the deviation.
  @Test func aLogAxisSpreadsFactorsEvenly() throws {
    var curve = Curve("c", x: "K", [Curve.Series("a", [(64, 1), (256, 2), (1024, 4)], spread: [0, 1, 0])])
    func places(_ curve: Curve) throws -> [Double] {
      try #require(curve.svg).matches(of: /cx="([0-9.]+)"/).map { Double($0.1)! }
    }
    let linear = try places(curve)
    #expect(linear[1] - linear[0] < (linear[2] - linear[1]) / 3)
    curve.isLogarithmic = true
    let even = try places(curve)
    #expect(even.count == 3 && abs((even[1] - even[0]) - (even[2] - even[1])) <= 0.1 && even[0] < even[1])
    let svg = try #require(curve.svg)
    for tick in ["64", "256", "1024"] { #expect(svg.contains(">\(tick)</text>"), "\(tick)") }
    let line = try #require(
      svg.firstMatch(of: /class="spread s0" x1="[0-9.]+" y1="([0-9.]+)" x2="[0-9.]+" y2="([0-9.]+)"/))
    let heights = svg.matches(of: /cy="([0-9.]+)"/).map { Double($0.1)! }
    // The error bar extends from 1 below to 1 above the middle point; the first two points are 1 apart.
    #expect(abs(Double(line.1)! - Double(line.2)! - 2 * (heights[0] - heights[1])) <= 0.3)
    #expect(svg.components(separatedBy: "class=\"spread").count == 2)
  }

  @Test func thePageHoldsThem() throws {
    var content = ReportContent(title: "t", summary: "s")
    content.figures = try figures(Self.points)
    let html = Report.html(content)
    #expect(html.contains("<section id=\"figures\">") && html.contains("K 64") == false)
    #expect(
      html.contains("<title>negatives 64: queue 43 %</title>") && html.contains("<figcaption>&lt;b&gt;</figcaption>"))
    #expect(html.components(separatedBy: "<svg").count - 1 == 2 && !html.contains("Keys of metrics.jsonl"))
  }

  @Test(arguments: [
    ("", "it holds no points"),
    ("{", "line 1 of "),
    ("\n{\"figure\":\"a\",\"curve\":\"b\",\"x\":1}", "line 2 of "),
    (
      "{\"figure\":\"a\",\"curve\":\"b\",\"x\":1,\"y\":2,\"scale\":\"cubic\"}",
      "its scale is `cubic`; it can be linear or log"
    ),
    (
      "{\"figure\":\"a\",\"curve\":\"b\",\"x\":0,\"y\":2,\"scale\":\"log\"}",
      "x is 0, and a log scale shows what is above 0"
    ),
    (
      (0..<5).map { "{\"figure\":\"a\",\"curve\":\"\($0)\",\"x\":1,\"y\":2}" }.joined(separator: "\n"),
      "`a` has more than 4 curves"
    ),
  ]) func whatCannotBeDrawnIsTold(_ text: String, _ words: String) {
    let error = #expect(throws: ReportError.self) { try figures(text) }
    #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
  }
}
