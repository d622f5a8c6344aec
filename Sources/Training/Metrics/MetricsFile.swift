import Foundation

/// One line of `metrics.jsonl`.
///
/// Values at top level are the same in every repetition of the run. Values that depend on the clock or the machine are
/// inside `timing`.
package struct MetricsLine: Sendable, Equatable {
  /// Steps done, counted from 1.
  package var step: Int
  /// Values at top level, without `step`.
  package var values: [String: JSONValue]
  /// Values inside `timing`, by their keys without the prefix.
  package var timing: [String: JSONValue]

  /// A line for one step.
  package init(step: Int, values: [String: JSONValue] = [:], timing: [String: JSONValue] = [:]) {
    self.step = step
    self.values = values
    self.timing = timing
  }

  /// The number of a key; those inside `timing` are keyed as `timing.views_per_second`.
  package subscript(key: String) -> Double? {
    if key == "step" { return Double(step) }
    if key.hasPrefix("timing.") { return timing[String(key.dropFirst(7))]?.number }
    return values[key]?.number
  }

  /// The line as JSON, without a newline.
  package var json: String {
    var object = values
    object["step"] = .number(step)
    if !timing.isEmpty { object["timing"] = .object(timing) }
    return JSONValue.object(object).json
  }

  /// Parses a line; nil if it is not a line of metrics, such as a torn one.
  package init?(json: some StringProtocol) { self.init(bytes: json.utf8) }

  /// Parses a line of UTF-8.
  init?(bytes: some Sequence<UInt8>) {
    guard let value = try? JSONDecoder().decode(JSONValue.self, from: Data(bytes)),
      var object = value.object, let number = object.removeValue(forKey: "step")?.number,
      let step = Int(exactly: number)
    else { return nil }
    timing = object.removeValue(forKey: "timing")?.object ?? [:]
    self.step = step
    values = object
  }
}

/// Appends to `metrics.jsonl`. Only the root has one.
package final class MetricsWriter {
  private let path: String
  private let handle: FileHandle

  /// Opens the file at its end, and creates it if it is missing.
  package init(path: String) throws(MetricsError) {
    self.path = path
    if !FileManager.default.fileExists(atPath: path) { _ = FileManager.default.createFile(atPath: path, contents: nil) }
    guard let handle = FileHandle(forWritingAtPath: path) else {
      throw MetricsError("open \(path)", String(cString: strerror(errno)))
    }
    self.handle = handle
    do { try handle.seekToEnd() } catch { throw MetricsError("open \(path)", "\(error)") }
  }

  /// Writes the whole line with one call, so that a reader, or a run killed meanwhile, sees whole lines.
  package func append(_ line: MetricsLine) throws(MetricsError) {
    do { try handle.write(contentsOf: Data((line.json + "\n").utf8)) } catch {
      throw MetricsError("write to \(path)", "\(error.localizedDescription)")
    }
  }

  /// Waits until all lines are on disk. Called with every checkpoint.
  package func synchronize() throws(MetricsError) {
    do { try handle.synchronize() } catch { throw MetricsError("write to \(path)", "\(error.localizedDescription)") }
  }

  /// Closes the file.
  package func close() { try? handle.close() }
}

/// Reads `metrics.jsonl`, and truncates it for a resume.
package enum MetricsFile {
  /// All whole lines. A torn last line, left by a killed run, is skipped; any other line that cannot be parsed is an
  /// error.
  package static func read(_ path: String) throws(MetricsError) -> [MetricsLine] {
    var lines: [MetricsLine] = []
    let texts = try texts(of: path)
    for (number, text) in texts.enumerated() {
      if let line = MetricsLine(bytes: text) {
        lines.append(line)
      } else if number < texts.count - 1 {
        let begin = String(decoding: text.prefix(80), as: UTF8.self)
        throw MetricsError("read \(path)", "line \(number + 1) is no JSON object with a step: \(begin)")
      }
    }
    return lines
  }

  /// The last line that meets a condition; nil if there is none. Only the lines after it are parsed.
  package static func last(_ path: String, where condition: (MetricsLine) -> Bool) throws(MetricsError) -> MetricsLine?
  {
    for text in try texts(of: path).reversed() {
      if let line = MetricsLine(bytes: text), condition(line) { return line }
    }
    return nil
  }

  /// Removes the lines after a step, and a torn last line. Steps ascend, so the file is read backwards, and only as far
  /// as needed. Does nothing if there is no file.
  package static func truncate(_ path: String, after step: Int) throws(MetricsError) {
    if !FileManager.default.fileExists(atPath: path) { return }
    do {
      let handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
      defer { try? handle.close() }
      var size = Int(try handle.seekToEnd())
      if size == 0 { return }
      // A line that lacks only its newline is whole.
      try handle.seek(toOffset: UInt64(size - 1))
      if try handle.readToEnd() != Data("\n".utf8) {
        try handle.write(contentsOf: Data("\n".utf8))
        size += 1
      }
      let end = try kept(handle, size: size, upTo: step)
      try handle.truncate(atOffset: UInt64(end))
      try handle.synchronize()
    } catch { throw MetricsError("cut \(path) after step \(step)", error.localizedDescription) }
  }

  /// Length of the file up to the end of the last line whose step is at most `step`.
  private static func kept(_ handle: FileHandle, size: Int, upTo step: Int) throws -> Int {
    let newline = UInt8(ascii: "\n")
    // The bytes of the file from `start` to the end of the last line that has not been rejected.
    var tail = Data()
    var start = size
    while true {
      while let end = tail.lastIndex(of: newline) {
        guard let before = tail[..<end].lastIndex(of: newline) ?? (start == 0 ? -1 : nil) else { break }
        let text = String(decoding: tail[(before + 1)..<end], as: UTF8.self)
        if let line = MetricsLine(json: text), line.step <= step { return start + end + 1 }
        tail = tail.prefix(before + 1)
      }
      if start == 0 { return 0 }
      let count = min(1 << 16, start)
      start -= count
      try handle.seek(toOffset: UInt64(start))
      tail = (try handle.read(upToCount: count) ?? Data()) + tail
    }
  }

  /// The lines as UTF-8.
  private static func texts(of path: String) throws(MetricsError) -> [ArraySlice<UInt8>] {
    do {
      return [UInt8](try Data(contentsOf: URL(fileURLWithPath: path))).split(separator: UInt8(ascii: "\n"))
    } catch { throw MetricsError("read \(path)", error.localizedDescription) }
  }
}

/// A failure to read or write the metrics.
package struct MetricsError: Error, CustomStringConvertible {
  /// The error in one line.
  package let description: String
  init(_ attempted: String, _ found: String) { description = "cannot \(attempted): \(found)" }
}
