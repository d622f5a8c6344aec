import Foundation
import Testing
import Training

@Suite struct MetricsTests {
  /// Runs `body` with the path of a file in a fresh folder, which is removed afterwards.
  func withFile(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-metrics-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try body(folder.appendingPathComponent("metrics.jsonl").path)
  }

  func text(_ path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }

  func line(_ step: Int) -> MetricsLine {
    MetricsLine(step: step, values: ["loss": .number(1 / Double(step))], timing: ["views_per_second": .number(10.5)])
  }

  @Test func aLineIsSortedAndShortest() {
    let line = MetricsLine(
      step: 12,
      values: [
        "rate": .number(Float(0.1)), "loss": .number(1.0 / 3), "epoch": .number(2.0), "top1": .number(Double.nan),
        "warnings": .list([.text("a \"b\"\n\u{1}\\é")]),
      ], timing: ["seconds": .number(1e-7), "a": .number(1e300)])
    #expect(
      line.json
        == #"{"epoch":2,"loss":0.3333333333333333,"rate":0.1,"step":12,"timing":{"a":1e+300,"seconds":1e-07},"#
        + #""top1":null,"warnings":["a \"b\"\n\u0001\\é"]}"#
    )
  }

  @Test func numbersReadBackAsTheyWere() throws {
    for value in [
      0.1, 1.0 / 3, Double.leastNonzeroMagnitude, 1.7976931348623157e308, -0.0, 123_456_789_012_345_680, 2e15, 0x1p53,
      1e21, -7,
    ] {
      let line = MetricsLine(step: 1, values: ["loss": .number(value)])
      #expect(MetricsLine(json: line.json)?["loss"] == value, "\(value)")
    }
    for value in [0.1, .leastNonzeroMagnitude, 3.4028235e38, 16_777_216] as [Float] {
      let line = MetricsLine(step: 1, values: ["loss": .number(value)])
      #expect(Float(try #require(MetricsLine(json: line.json)?["loss"])) == value, "\(value)")
    }
  }

  @Test func writesAndReads() throws {
    try withFile { path in
      let writer = try MetricsWriter(path: path)
      for step in 1...3 { try writer.append(line(step)) }
      try writer.synchronize()
      let again = try MetricsWriter(path: path)
      try again.append(line(4))
      let lines = try MetricsFile.read(path)
      #expect(lines == (1...4).map(line))
      #expect(lines[1]["loss"] == 0.5 && lines[1]["timing.views_per_second"] == 10.5 && lines[1]["step"] == 2)
      #expect(lines[1]["nothing"] == nil)
    }
  }

  @Test func theLastLineIsFoundFromTheEnd() throws {
    try withFile { path in
      let monitor = MetricsLine(step: 3, values: ["knn_top1": .number(0.5)])
      let lines = [line(1), line(2), line(3), monitor].map(\.json)
      try (lines + ["{\"step\":4,\"lo"]).joined(separator: "\n").write(toFile: path, atomically: true, encoding: .utf8)
      #expect(try MetricsFile.last(path) { $0["loss"] != nil } == line(3))
      #expect(try MetricsFile.last(path) { _ in true } == monitor)
      #expect(try MetricsFile.last(path) { $0.step > 3 } == nil)
      #expect(throws: MetricsError.self) { try MetricsFile.last(path + "-none") { _ in true } }
    }
  }

  /// Every kind of value, also where it looks like another.
  @Test func everyKindOfValueIsRead() throws {
    let text = #"{"a":[1,true,null,"1",{}],"b":false,"c":"true","d":{"e":[]},"step":1}"#
    let value = try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
    #expect(value.json == text)
    #expect(value.object?["b"] == .bool(false) && value.object?["a"]?.list?[1] == .bool(true))
  }

  @Test func truncatesForAResume() throws {
    try withFile { path in
      let writer = try MetricsWriter(path: path)
      for step in [10, 20, 30, 40] { try writer.append(line(step)) }
      writer.close()
      let whole = try text(path)
      // Every length at which a killed run can leave the file.
      for length in 0...whole.utf8.count {
        try Data(whole.utf8.prefix(length)).write(to: URL(fileURLWithPath: path))
        let readable = try MetricsFile.read(path)
        try MetricsFile.truncate(path, after: 30)
        #expect(try MetricsFile.read(path) == readable.filter { $0.step <= 30 })
        let kept = try text(path)
        #expect(whole.hasPrefix(kept) && (kept.isEmpty || kept.hasSuffix("\n")))
      }
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: (path as NSString).deletingLastPathComponent).count == 1)
      let after = try MetricsWriter(path: path)
      try after.append(line(31))
      #expect(try MetricsFile.read(path).map(\.step) == [10, 20, 30, 31])
    }
  }

  @Test func aResumeWithoutMetricsIsNoError() throws {
    try withFile { path in
      try MetricsFile.truncate(path, after: 3)
      #expect(!FileManager.default.fileExists(atPath: path))
    }
  }

  @Test func foreignLinesAreNamed() throws {
    try withFile { path in
      try Data("{\"step\":1}\nhello\n{\"step\":2}\n".utf8).write(to: URL(fileURLWithPath: path))
      let error = #expect(throws: MetricsError.self) { try MetricsFile.read(path) }
      #expect(error?.description == "cannot read \(path): line 2 is no JSON object with a step: hello")
      let missing = #expect(throws: MetricsError.self) { try MetricsWriter(path: path + "/no/such") }
      #expect(missing?.description.hasPrefix("cannot open \(path)/no/such: ") == true)
    }
  }

  /// A missing figure differs from one that is 0 or NaN.
  @Test func figuresAreThereOrNot() {
    var figures = Outcome.Figures()
    for figure in Outcome.Figure.allCases { #expect(figures[figure] == nil) }
    for (i, figure) in Outcome.Figure.allCases.enumerated() { figures[figure] = Double(i) }
    figures[.entropy] = nil
    figures[.accuracy] = .nan
    for (i, figure) in Outcome.Figure.allCases.enumerated() where figure != .entropy && figure != .accuracy {
      #expect(figures[figure] == Double(i))
    }
    #expect(figures[.entropy] == nil && figures[.accuracy]?.isNaN == true)
    #expect(Set(Outcome.Figure.allCases.map(\.key)).count == Outcome.Figure.allCases.count)
    #expect(Outcome.Figure.allCases.count <= Outcome.Figures.capacity)
  }

  @Test func everyKeyIsDescribedOnce() {
    let names = Metrics.documentation.map(\.name)
    #expect(Set(names).count == names.count)
    #expect(Metrics.documentation.allSatisfy { !$0.meaning.isEmpty })
    for figure in Outcome.Figure.allCases { #expect(Metrics.key(figure.key) != nil, "\(figure)") }
    for key in ProgressRates(secondsLeft: 1).timing.keys { #expect(Metrics.key("timing." + key) != nil, "\(key)") }
    #expect(Metrics.markdown.split(separator: "\n").count == names.count + 2)
  }
}
