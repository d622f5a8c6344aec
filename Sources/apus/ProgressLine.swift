import Files
import Foundation
import Shards
import Threading

/// Shows the progress of long work: one rewritten line on a terminal, else a line every few seconds. It prints to
/// standard error, so that results can be piped.
final class ProgressLine {
  private let verb: String
  private let isTerminal = Output.isRewritable(STDERR_FILENO)
  private let start = ContinuousClock.now
  private var shown: ContinuousClock.Instant?

  /// - Parameter verb: the work, such as `packing`.
  init(_ verb: String) { self.verb = verb }

  private func seconds(since instant: ContinuousClock.Instant) -> Double { (ContinuousClock.now - instant).seconds }

  /// - Parameter note: text for the end of the line.
  func show(done: Int, total: Int, note: String) {
    let last = done >= total
    if !last, let shown, seconds(since: shown) < (isTerminal ? 0.1 : 10) { return }
    if !last, shown == nil, !isTerminal, seconds(since: start) < 10 { return }
    shown = ContinuousClock.now
    let elapsed = max(seconds(since: start), 1e-3)
    let rate = Double(done) / elapsed
    let left = last ? "in " + duration(elapsed) : duration(Double(total - done) / max(rate, 1e-9)) + " left"
    let percent = total == 0 ? 100 : done * 100 / total
    let line = "\(verb) \(done)/\(total) (\(percent) %), \(Int(rate.rounded())) images/s, \(left), \(note)"
    let text = isTerminal ? "\r\u{1B}[K" + line + (last ? "\n" : "") : line + "\n"
    Output.say(text, to: STDERR_FILENO)
  }
}
