import Foundation
import Testing
import Training

@Suite struct ReportTests {
  @Test func holdsEverySectionOnce() throws {
    let html = Report.html(try .sample())
    for part in [
      "<!doctype html>", "<meta charset=\"utf-8\">", "id=\"warnings\"", "<section id=\"results\">", "<section id=\"curves\">",
      "<section id=\"grid1\">", "<section id=\"grid2\">", "<section id=\"grid3\">", "<section id=\"classes\">", "<section id=\"run\">",
      "linear probe (linear-v1), 12000 training and 10000 test images", "<b>87.12 %</b>", "86.45 – 87.76", "8712 / 10000",
      ">guessing: ln(511)</text>", ">even spread</text>", ">two views of an image</span>",
    ] { #expect(html.components(separatedBy: part).count == 2, "\(part)") }
    #expect(html.components(separatedBy: "<polyline").count - 1 == 12)
    #expect(html.components(separatedBy: "src=\"data:image/png;base64,").count - 1 == 18 + 3 + 16)
    #expect(html.components(separatedBy: "<section ").count == html.components(separatedBy: "</section>").count)
    #expect(html.components(separatedBy: "<figure").count == html.components(separatedBy: "</figure>").count)
  }

  @Test func namesAreEscapedAndNothingIsFetched() throws {
    let html = Report.html(try .sample())
    #expect(!html.contains("<script") && !html.contains("\"'</") && !html.contains("&\"'"))
    #expect(html.components(separatedBy: "&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;").count - 1 >= 8)
    #expect(HTML.escape("a\u{0}\u{1B}é\n") == "a\u{FFFD}\u{FFFD}é\n")
    for fetch in ["http:", "https:", "//", "@import", "url(", "<script", "<iframe", "<object"] {
      // Base64 has // too.
      let outside = html.replacing(#/data:image\/png;base64,[A-Za-z0-9+\/=]*/#, with: "")
      #expect(!outside.contains(fetch), "\(fetch)")
    }
  }

  @Test func anEmptyRunIsAPageToo() {
    let html = Report.html(ReportContent(title: "", summary: ""))
    #expect(!html.contains("<section") && html.contains("</html>"))
  }

  @Test func isWrittenWhole() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString).html").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let content = try ReportContent.sample()
    try Report.write(content, to: path)
    #expect(try String(contentsOfFile: path, encoding: .utf8) == Report.html(content))
    #expect(!FileManager.default.fileExists(atPath: path + ".new"))
    let error = #expect(throws: ReportError.self) { try Report.write(content, to: "/nowhere/at/all.html") }
    #expect(error?.description.hasPrefix("cannot write the report /nowhere/at/all.html.new: ") == true)
  }

  @Test func curvesHaveAxesAndHover() throws {
    var curve = Curve("Loss", unit: "nats", [Curve.Series("loss", [(10, 6.0), (20, 3.5), (30, 1.25), (40, .nan)])])
    curve.guides = [Curve.Guide(6.24, "guessing")]
    let svg = try #require(curve.svg)
    #expect(svg.contains("<title>step 20: Loss 3.5 nats</title>"))
    #expect(svg.contains(">7</text>") && svg.contains(">1</text>") && svg.contains(">20</text>") && svg.contains(">nats</text>"))
    #expect(svg.components(separatedBy: "<circle").count - 1 == 3)
    #expect(!svg.contains("nan"))
    #expect(Curve("x", []).svg == nil && Curve("x", [Curve.Series("a", [(1, .nan)])]).svg == nil)
  }

  @Test func oddCurvesAreDrawn() throws {
    for values in [[5.0], [0, 0], [1e-9, 2e-9], [-1e12, 1e12], [1e300, 1e-300], [3, 3, 3]] {
      let svg = try #require(Curve("x", [Curve.Series("a", values.enumerated().map { (Double($0), $1) })]).svg)
      #expect(!svg.contains("nan") && !svg.contains("inf"), "\(values)")
    }
  }

  @Test func aSpikeSurvivesThinning() throws {
    var points = (0..<10_000).map { (x: Double($0), y: 1.0) }
    points[7777].y = 9
    let svg = try #require(Curve("x", [Curve.Series("a", points)]).svg)
    #expect(svg.utf8.count < 40_000)
    #expect(svg.contains("step 7777: x 9"))
  }

  @Test func imagesAreStretched() {
    #expect(ReportImage(width: 3, height: 1, channels: 1, stretching: [-1, 0, 3]).pixels == [0, 64, 255])
    #expect(ReportImage(width: 3, height: 1, channels: 1, stretching: [-1, 0, 3], symmetric: true).pixels == [85, 128, 255])
    #expect(ReportImage(width: 2, height: 1, channels: 1, stretching: [2, 2]).pixels == [128, 128])
    #expect(ReportImage(width: 2, height: 1, channels: 1, stretching: [.nan, 2]).pixels == [128, 128])
  }
}
