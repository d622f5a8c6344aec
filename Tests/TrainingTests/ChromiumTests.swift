import Foundation
import Testing
import Training

/// The report in Chromium, if it is installed.
@Suite(.serialized, .enabled(if: Chromium.path != nil, "Chromium is not installed")) struct ChromiumTests {
  @Test func opensWithoutComplaint() throws {
    let (dom, console) = try Chromium.open(Report.html(try .sample()))
    #expect(console.isEmpty, "\(console)")
    for node in [
      "id=\"results\"", "id=\"curves\"", "class=\"whisker\"", "<polyline",
      "simclr on &lt;script&gt;alert(1)&lt;/script&gt;&amp;\"'</h1>",
    ] {
      #expect(dom.contains(node), "\(node)")
    }
    #expect(!dom.contains("<script"))
  }

  /// Control: console messages are detected.
  @Test func complaintsAreSeen() throws {
    let page = Report.html(try .sample())
    for bad in [
      "<script>console.log('x')</script>", "<img src=\"http://127.0.0.1:9/x.png\">",
      "<link rel=stylesheet href=\"http://127.0.0.1:9/x.css\">",
    ] {
      let (_, console) = try Chromium.open(page.replacingOccurrences(of: "</main>", with: bad + "</main>"))
      #expect(console.contains { $0.contains("Content Security Policy") }, "\(bad)")
    }
  }
}

enum Chromium {
  static let path = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].first {
    FileManager.default.isExecutableFile(atPath: $0)
  }

  /// The page's DOM, and its console messages.
  static func open(_ html: String) throws -> (dom: String, console: [String]) {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-browser-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let page = folder.appendingPathComponent("report.html")
    let log = folder.appendingPathComponent("log")
    let dom = folder.appendingPathComponent("dom")
    try Data(html.utf8).write(to: page)
    for file in [log, dom] { _ = FileManager.default.createFile(atPath: file.path, contents: nil) }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: try #require(path))
    process.arguments = [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
      "--user-data-dir=\(folder.path)/profile",
      "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--virtual-time-budget=2000", "--dump-dom",
      "file://\(page.path)",
    ]
    process.standardOutput = try FileHandle(forWritingTo: dom)
    process.standardError = try FileHandle(forWritingTo: log)
    try process.run()
    DispatchQueue.global().asyncAfter(deadline: .now() + 60) { if process.isRunning { process.terminate() } }
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    // Chromium logs console messages as `INFO:CONSOLE`, and blocked resources as violations of the policy.
    let lines = try String(decoding: Data(contentsOf: log), as: UTF8.self).split(separator: "\n").map(String.init)
    return (try String(decoding: Data(contentsOf: dom), as: UTF8.self), lines.filter { $0.contains("CONSOLE") })
  }
}
