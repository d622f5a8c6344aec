import CPNG
import Foundation
import Testing
import Training

@Suite struct ReportTests {
  @Test func holdsEverySectionOnce() throws {
    let html = Report.html(try .sample())
    for part in [
      "<!doctype html>", "<meta charset=\"utf-8\">", "id=\"warnings\"", "<section id=\"results\">",
      "<section id=\"curves\">",
      "<section id=\"grid1\">", "<section id=\"grid2\">", "<section id=\"grid3\">", "<section id=\"classes\">",
      "<section id=\"run\">",
      "linear probe (linear-v1), 12,000 training and 10,000 test images", "<b>87.12 %</b>", "86.45 – 87.76",
      "8,712 / 10,000",
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
      // Base64 may contain //.
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
    let error = #expect(throws: ReportError.self) { try Report.write(content, to: "/nowhere/at/all.html") }
    #expect(error?.description.hasPrefix("cannot write /nowhere/at/all.html: ") == true)
  }

  /// Figures of different steps or images are in different tables.
  @Test func figuresThatDoNotBelongTogetherAreApart() throws {
    var content = try ReportContent.sample()
    let results = content.evaluations[0].results
    content.evaluations.insert(.sample(step: 12, Array(results.prefix(1))), at: 0)
    content.evaluations.append(.sample(data: "other/train", Array(results.prefix(2))))
    let html = Report.html(content)
    #expect(html.components(separatedBy: "<table class=\"results\">").count - 1 == 3)
    #expect(html.contains("<h3>After step 12 (stage 0, pretrain) – an earlier step: the run is at step 5000</h3>"))
    #expect(html.components(separatedBy: "<h3>After step 5000 (stage 0, pretrain)</h3>").count - 1 == 2)
    #expect(
      html.contains("<p>Learned from 12,000 of 60,000 images of other/train, judged on 10,000 images of data/test."))
    // The latest comes first, with the table of classes.
    let places = ["other/train", "images of data/train", "After step 12"].map { html.range(of: $0)!.lowerBound }
    #expect(places == places.sorted())
    #expect(html.contains("by linear probe (linear-v1). After step 5000 (stage 0, pretrain).</p>"))
  }

  /// A run of two stages has consecutive curves with a border between them.
  @Test func stagesFollowEachOther() throws {
    var content = try ReportContent.sample()
    content.stages = ["warm", "fine"]
    content.metrics = (1...4).map {
      MetricsLine(step: $0 * 10, values: ["loss": .number(Double($0)), "stage": .number($0 < 3 ? 0 : 1)])
    }
    let html = Report.html(content)
    #expect(html.components(separatedBy: ">fine</text>").count - 1 == 1 && !html.contains(">warm</text>"))
    content.metrics.removeLast(2)
    #expect(!Report.html(content).contains(">fine</text>"))
  }

  @Test func curvesHaveAxesAndHover() throws {
    var curve = Curve("Loss", unit: "nats", [Curve.Series("loss", [(10, 6.0), (20, 3.5), (30, 1.25), (40, .nan)])])
    curve.guides = [Curve.Guide(6.24, "guessing")]
    let svg = try #require(curve.svg)
    #expect(svg.contains("<title>step 20: Loss 3.5 nats</title>"))
    #expect(
      svg.contains(">7</text>") && svg.contains(">1</text>") && svg.contains(">20</text>")
        && svg.contains(">nats</text>"))
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

  /// Encoded images decode to the same pixels: the first channel of two, and the first three of more than three.
  @Test(arguments: [(1, 1), (2, 1), (3, 3), (5, 3)]) func imagesBecomePNG(channels: Int, shown: Int) {
    for (number, size) in [1, 7, 200].enumerated() {
      let image = ReportContent.picture(number, size, channels)
      let png = image.png
      var header = cpng_info()
      var message = [CChar](repeating: 0, count: Int(CPNG_MESSAGE))
      #expect(cpng_header(png, png.count, &header, &message) == 0)
      #expect(header.width == size && header.height == size && header.channels == shown && header.depth == 8)
      var pixels = [UInt8](repeating: 0, count: size * size * shown)
      #expect(cpng_decode(png, png.count, &header, &pixels, &message) == 0)
      #expect(pixels == (0..<size * size).flatMap { image.pixels[$0 * channels..<$0 * channels + shown] })
    }
    #expect(ReportContent.picture(1, 2, 3).dataURI.hasPrefix("data:image/png;base64,iVBORw0KGgo"))
  }

  /// A constant image is compressed.
  @Test func picturesAreDeflated() {
    let flat = ReportImage(width: 96, height: 96, channels: 3, pixels: Array(repeating: 90, count: 96 * 96 * 3))
    #expect(flat.png.count < 96 * 96 * 3 / 50)
  }

  @Test func imagesAreReduced() {
    let image = ReportImage(width: 5, height: 2, channels: 1, pixels: [0, 10, 20, 30, 40, 10, 20, 30, 40, 51])
    #expect(image.reduced(to: 5) == image)
    #expect(image.reduced(to: 3) == ReportImage(width: 3, height: 1, channels: 1, pixels: [10, 30, 46]))
    #expect(ReportContent.picture(1, 224, 3).reduced(to: 128).width == 112)
  }

  @Test func imagesAreStretched() {
    #expect(ReportImage(width: 3, height: 1, channels: 1, stretching: [-1, 0, 3]).pixels == [0, 64, 255])
    #expect(
      ReportImage(width: 3, height: 1, channels: 1, stretching: [-1, 0, 3], symmetric: true).pixels == [85, 128, 255])
    #expect(ReportImage(width: 2, height: 1, channels: 1, stretching: [2, 2]).pixels == [128, 128])
    #expect(ReportImage(width: 2, height: 1, channels: 1, stretching: [.nan, 2]).pixels == [128, 128])
  }
}

@Suite struct ReportFilesTests {
  func withRun(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-run-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try body(folder.path)
  }

  @Test func aRunFolderBecomesAReport() throws {
    try withRun { run in
      let sample = try ReportContent.sample()
      let writer = try MetricsWriter(path: run + "/metrics.jsonl")
      for line in sample.metrics { try writer.append(line) }
      let loss = JSONValue.number(1)
      try writer.append(MetricsLine(step: 4990, values: ["loss": loss, "warnings": .list([.text("long ago")])]))
      // In the order of a run, where the monitor's line comes after the log's.
      try writer.append(MetricsLine(step: 5000, values: ["loss": loss, "warnings": .list([.text("careful")])]))
      try writer.append(MetricsLine(step: 5000, values: ["knn_top1": .number(0.5)]))
      try Data(sample.recipe.utf8).write(to: URL(fileURLWithPath: run + "/recipe.yaml"))
      let results = sample.evaluations[0].results
      try RunFiles.add(.sample(Array(results.prefix(5))), to: run)
      try RunFiles.add(.sample(Array(results.dropFirst(3))), to: run)
      try RunFiles.write(
        ReportExhibits(
          title: sample.title, summary: sample.summary, facts: sample.facts, grids: sample.grids), to: run)
      var content = try ReportContent(run: run)
      #expect(
        content.warnings == ["this run is not finished: the file `complete` is missing from its folder", "careful"])
      #expect(content.metrics.count == 503)
      // Results 3 ... 8 were added last.
      #expect(content.evaluations == sample.evaluations)
      content.warnings = sample.warnings
      content.metrics.removeLast(3)
      #expect(content.stages.isEmpty)  // The sample's recipe cannot be parsed.
      #expect(Report.html(content) == Report.html(sample))
      try Data().write(to: URL(fileURLWithPath: run + "/complete"))
      #expect(try ReportContent(run: run).warnings == ["careful"])
    }
  }

  @Test func anEmptyFolderAndABrokenFile() throws {
    try withRun { run in
      let content = try ReportContent(run: run)
      #expect(content.title == URL(fileURLWithPath: run).lastPathComponent && content.evaluations.isEmpty)
      try Data("[{]".utf8).write(to: URL(fileURLWithPath: run + "/evaluations.json"))
      #expect(!RunFiles.hasOldEvaluations(run))
      let error = #expect(throws: ReportError.self) { try RunFiles.evaluations(of: run) }
      #expect(error?.description.hasPrefix("cannot read \(run)/evaluations.json: ") == true)
      // An image that claims more pixels than it has.
      let picture = #"{"caption":"","mark":"none","image":{"width":9,"height":9,"channels":3,"pixels":"AAAA"}}"#
      let grid = #"{"title":"","text":"","size":1,"rows":[{"name":"","pictures":[\#(picture)]}]}"#
      let lie = #"{"title":"","summary":"","facts":[],"grids":[\#(grid)]}"#
      try Data(lie.utf8).write(to: URL(fileURLWithPath: run + "/exhibits.json"))
      #expect(throws: ReportError.self) { try RunFiles.exhibits(of: run) }
    }
  }

  /// Results of earlier versions, which do not name their data, are marked as old.
  @Test func oldEvaluationsAreSaidToBeOld() throws {
    try withRun { run in
      try Data(#"[{"name":"knn","version":1,"top1":0.5}]"#.utf8).write(
        to: URL(fileURLWithPath: run + "/evaluations.json"))
      #expect(RunFiles.hasOldEvaluations(run))
      let content = try ReportContent(run: run)
      #expect(content.evaluations.isEmpty && content.warnings.contains { $0.contains("is of an earlier version") })
      try RunFiles.add(.sample(), to: run)
      #expect(!RunFiles.hasOldEvaluations(run))
      #expect(try RunFiles.evaluations(of: run) == [.sample()])
    }
  }

  @Test func gridsTakeTheRightPixels() throws {
    // (2 views, 2 images, 2 × 2, 1): the position of the white pixel identifies view and image.
    let views: [Float] = (0..<16).map { $0 % 4 == $0 / 4 ? 1 : 0 }
    let grid = ReportContent.Grid.views(views, count: 2, images: 2, size: 2, channels: 1, names: ["a", "b"])
    #expect(grid.rows.map(\.name) == ["a", "b"] && grid.rows.allSatisfy { $0.pictures.count == 2 })
    #expect(grid.rows[1].pictures.map(\.image.pixels) == [[0, 255, 0, 0], [0, 0, 0, 255]])
    // (1, 2, 1, 3): filters are the fastest dimension.
    let kernels = ReportContent.Grid.kernels(
      [1, 0, -1, -1, 1, 1] + [0, 0, 0, 0, 0, 0], kernel: 2, channels: 1, filters: 3)
    #expect(
      kernels.rows[0].pictures.map(\.image.pixels) == [[255, 0, 128, 128], [128, 255, 128, 128], [0, 255, 128, 128]])
    let found = Comparison.Neighbours(query: 0, nearest: [0, 2], label: 0, nearestLabels: [0, 1])
    let near = try ReportContent.Grid.neighbours([found], origin: "After step 3", classNames: ["x", "y"]) {
      isTraining, sample in
      ReportImage(width: 1, height: 1, channels: 1, pixels: [UInt8(sample + (isTraining ? 10 : 0))])
    }
    #expect(near.text.hasSuffix("red: of another. After step 3."))
    #expect(
      near.rows == [
        .init(
          "x",
          [
            .init(ReportImage(width: 1, height: 1, channels: 1, pixels: [0]), caption: "query", mark: .query),
            .init(ReportImage(width: 1, height: 1, channels: 1, pixels: [10]), caption: "x", mark: .same),
            .init(ReportImage(width: 1, height: 1, channels: 1, pixels: [12]), caption: "y", mark: .different),
          ])
      ])
  }
}
