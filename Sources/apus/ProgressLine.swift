import Foundation

/// Shows how far a long piece of work is: one line that is written over on a terminal, a line every few seconds
/// otherwise. Everything goes to standard error, so that results can be piped.
final class ProgressLine {
  private let verb: String
  private let isTerminal = isatty(STDERR_FILENO) == 1
  private let start = ContinuousClock.now
  private var shown: ContinuousClock.Instant?

  /// - Parameter verb: what is being done, such as `packing`.
  init(_ verb: String) { self.verb = verb }

  private func seconds(since instant: ContinuousClock.Instant) -> Double {
    let parts = (ContinuousClock.now - instant).components
    return Double(parts.seconds) + Double(parts.attoseconds) * 1e-18
  }

  /// - Parameter note: further words for the end of the line.
  func show(done: Int, total: Int, note: String) {
    let last = done >= total
    if !last, let shown, seconds(since: shown) < (isTerminal ? 0.1 : 10) { return }
    if !last, shown == nil, !isTerminal, seconds(since: start) < 10 { return }
    shown = ContinuousClock.now
    let elapsed = max(seconds(since: start), 1e-3)
    let rate = Double(done) / elapsed
    let left = last ? "in " + Self.time(elapsed) : Self.time(Double(total - done) / max(rate, 1e-9)) + " left"
    let percent = total == 0 ? 100 : done * 100 / total
    let line = "\(verb) \(done)/\(total) (\(percent) %), \(Int(rate.rounded())) images/s, \(left), \(note)"
    write(isTerminal ? "\r\u{1B}[K" + line + (last ? "\n" : "") : line + "\n")
  }

  private func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }

  static func time(_ seconds: Double) -> String {
    let whole = Int(min(seconds.rounded(), 1e9))
    if whole < 100 { return "\(whole) s" }
    return whole < 6000 ? "\((whole + 30) / 60) min" : "\(whole / 3600) h \(whole % 3600 / 60) min"
  }
}
