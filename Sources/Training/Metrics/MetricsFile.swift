import Foundation

/// One line of `metrics.jsonl`.
///
/// What a run's numbers depend on stands at top level and is equal in every repetition of the run; what depends on the
/// clock or the machine stands inside `timing`.
package struct MetricsLine: Sendable, Equatable {
  /// Steps done, counted from 1.
  package var step: Int
  package var values: [String: JSONValue]
  package var timing: [String: JSONValue]

  package init(step: Int, values: [String: JSONValue] = [:], timing: [String: JSONValue] = [:]) {
    self.step = step
    self.values = values
    self.timing = timing
  }

  /// A number by its key; inside `timing` as `timing.views_per_second`.
  package subscript(key: String) -> Double? {
    if key == "step" { return Double(step) }
    if key.hasPrefix("timing.") { return timing[String(key.dropFirst(7))]?.number }
    return values[key]?.number
  }

  /// Without the line's end.
  package var json: String {
    var object = values
    object["step"] = .number(step)
    if !timing.isEmpty { object["timing"] = .object(timing) }
    return JSONValue.object(object).json
  }

  /// Nil where the text is no line of metrics, such as a torn one.
  package init?(json: some StringProtocol) {
    guard let value = try? JSONDecoder().decode(JSONValue.self, from: Data(json.utf8)),
      var object = value.object, let number = object.removeValue(forKey: "step")?.number,
      let step = Int(exactly: number)
    else { return nil }
    timing = object.removeValue(forKey: "timing")?.object ?? [:]
    self.step = step
    values = object
  }
}

/// Appends to `metrics.jsonl`; one rank does.
package final class MetricsWriter {
  private let path: String
  private let handle: FileHandle

  /// Opens the file at its end, making it where it is missing.
  package init(path: String) throws(MetricsError) {
    self.path = path
    if !FileManager.default.fileExists(atPath: path) { _ = FileManager.default.createFile(atPath: path, contents: nil) }
    guard let handle = FileHandle(forWritingAtPath: path) else {
      throw MetricsError("open \(path)", String(cString: strerror(errno)))
    }
    self.handle = handle
    do { try handle.seekToEnd() } catch { throw MetricsError("open \(path)", "\(error)") }
  }

  /// Hands the whole line to the system at once, so that a reader or a killed run sees whole lines.
  package func append(_ line: MetricsLine) throws(MetricsError) {
    do { try handle.write(contentsOf: Data((line.json + "\n").utf8)) } catch {
      throw MetricsError("write to \(path)", "\(error.localizedDescription)")
    }
  }

  /// Waits until the lines are on disk; together with a checkpoint.
  package func synchronize() throws(MetricsError) {
    do { try handle.synchronize() } catch { throw MetricsError("write to \(path)", "\(error.localizedDescription)") }
  }

  package func close() { try? handle.close() }
}

/// Reads `metrics.jsonl` and cuts it for a resume.
package enum MetricsFile {
  /// All whole lines. A torn last line, left by a killed run, is passed over; any other foreign line is an error.
  package static func read(_ path: String) throws(MetricsError) -> [MetricsLine] {
    var lines: [MetricsLine] = []
    let texts = try texts(of: path)
    for (number, text) in texts.enumerated() {
      if let line = MetricsLine(json: text) {
        lines.append(line)
      } else if number < texts.count - 1 {
        throw MetricsError("read \(path)", "line \(number + 1) is no JSON object with a step: \(text.prefix(80))")
      }
    }
    return lines
  }

  /// Cuts off the lines after a step, and a torn last one. Steps ascend, so the file is read from its end, and only as
  /// far as needed. Nothing happens where there is no file.
  package static func truncate(_ path: String, after step: Int) throws(MetricsError) {
    if !FileManager.default.fileExists(atPath: path) { return }
    do {
      let handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
      defer { try? handle.close() }
      var size = Int(try handle.seekToEnd())
      if size == 0 { return }
      // A line that lacks only its end is whole.
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

  /// Bytes before the end of the last whole line of at most a step.
  private static func kept(_ handle: FileHandle, size: Int, upTo step: Int) throws -> Int {
    let newline = UInt8(ascii: "\n")
    // The bytes of the file from `start` up to a line that is still to be judged.
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

  private static func texts(of path: String) throws(MetricsError) -> [Substring] {
    do {
      return String(decoding: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self)
        .split(separator: "\n", omittingEmptySubsequences: true)
    } catch { throw MetricsError("read \(path)", error.localizedDescription) }
  }
}

/// What could not be done with the metrics.
package struct MetricsError: Error, CustomStringConvertible {
  package let description: String
  init(_ attempted: String, _ found: String) { description = "cannot \(attempted): \(found)" }
}
