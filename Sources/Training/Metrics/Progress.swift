import Files
import Foundation
import Shards

/// Speed over the last half minute, for the progress line and for `timing` in the metrics.
package struct ProgressRates: Sendable, Equatable {
  /// Views per second of all ranks.
  package var viewsPerSecond = 0.0
  /// Estimated seconds to the end; nil before there is an estimate.
  package var secondsLeft: Double?
  /// Share of the time spent waiting for images, 0...1.
  package var dataWaitShare = 0.0
  /// Share of the time spent in collectives, 0...1.
  package var communicationShare = 0.0
  /// Seconds since the start.
  package var seconds = 0.0

  /// All rates 0.
  package init(secondsLeft: Double? = nil) { self.secondsLeft = secondsLeft }

  /// The values of `timing` in the metrics.
  package var timing: [String: JSONValue] {
    var values: [String: JSONValue] = [
      "views_per_second": .number(rounded(viewsPerSecond, 1)), "data_wait_share": .number(rounded(dataWaitShare, 4)),
      "communication_share": .number(rounded(communicationShare, 4)), "seconds": .number(rounded(seconds, 3)),
    ]
    if let secondsLeft { values["seconds_left"] = .number(rounded(secondsLeft, 0)) }
    return values
  }

  private func rounded(_ value: Double, _ decimals: Int) -> Double {
    let power = pow(10, Double(decimals))
    return (value * power).rounded() / power
  }
}

/// Shows a run's progress: one rewritten line on a terminal, plain lines elsewhere. Only the root has one.
///
///     step 1200/5000  24 %  epoch 12.3  loss 5.432  rate 0.3  1234 views/s  data 2 %  comm 5 %  12 min left
package final class RunProgress {
  /// A step's report. Seconds and views count from the start of this process.
  package struct Step: Sendable {
    /// Steps done.
    package var step: Int
    /// Passes over the data, with their fraction.
    package var epoch: Double
    /// Loss of this step.
    package var loss: Double
    /// Learning rate of this step.
    package var rate: Double
    /// Views of all ranks so far.
    package var views: Int
    /// Seconds spent waiting for images so far.
    package var secondsWaited: Double
    /// Seconds spent in collectives so far.
    package var secondsCommunicating: Double

    /// A report with all its fields.
    package init(
      step: Int, epoch: Double, loss: Double, rate: Double, views: Int, secondsWaited: Double,
      secondsCommunicating: Double
    ) {
      self.step = step
      self.epoch = epoch
      self.loss = loss
      self.rate = rate
      self.views = views
      self.secondsWaited = secondsWaited
      self.secondsCommunicating = secondsCommunicating
    }
  }

  private let first: Int
  private let end: Int
  private let terminal: Bool
  private let columns: () -> Int
  private let clock: () -> Double
  private let sink: (String) -> Void
  private let start: Double
  /// Reports of the last half minute, oldest first, and at least half a second apart.
  private var window: [(time: Double, step: Step)]
  /// How many reports are kept.
  package var kept: Int { window.count }
  private var shown = -Double.infinity
  private var isLineOpen = false
  package private(set) var rates = ProgressRates()

  /// - Parameters:
  ///   - first: steps done before.
  ///   - end: steps of the whole run.
  ///   - terminal: whether the line can be rewritten.
  ///   - columns: the terminal's width, read at each refresh.
  ///   - clock: seconds from any origin.
  ///   - sink: gets the text to print.
  package init(
    from first: Int, to end: Int, terminal: Bool, columns: @escaping () -> Int, clock: @escaping () -> Double,
    sink: @escaping (String) -> Void
  ) {
    self.first = first
    self.end = end
    self.terminal = terminal
    self.columns = columns
    self.clock = clock
    self.sink = sink
    start = clock()
    let nothing = Step(step: first, epoch: 0, loss: 0, rate: 0, views: 0, secondsWaited: 0, secondsCommunicating: 0)
    window = [(start, nothing)]
  }

  /// Progress on standard output.
  package convenience init(from first: Int, to end: Int) {
    self.init(
      from: first, to: end, terminal: Output.isRewritable(STDOUT_FILENO),
      columns: Self.terminalColumns,
      clock: { ProcessInfo.processInfo.systemUptime }, sink: { Output.say($0) })
  }

  private static func terminalColumns() -> Int {
    var size = winsize()
    return ioctl(1, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : 80
  }

  /// Takes a step's report. Shows it at most five times a second on a terminal, else every ten seconds.
  /// - Parameter logged: whether this step writes metrics; then it is always shown.
  package func advance(_ step: Step, logged: Bool = false) {
    let now = clock()
    while window.count > 1, window[1].time <= now - 30 { window.removeFirst() }
    rates = measure(step, now)
    if now - window[window.count - 1].time >= 0.5 { window.append((now, step)) }
    if logged || now - shown >= (terminal ? 0.2 : 10) || step.step == end { show(step, now) }
  }

  /// Prints a line above the progress line.
  package func say(_ line: String) {
    sink((isLineOpen ? "\r\u{1B}[K" : "") + line + "\n")
    isLineOpen = false
    shown = -.infinity
  }

  /// Moves the cursor to a new line.
  package func finish() {
    if isLineOpen { sink("\n") }
    isLineOpen = false
  }

  private func measure(_ new: Step, _ now: Double) -> ProgressRates {
    let old = window[0]
    let seconds = max(now - old.time, 1e-9)
    var rates = ProgressRates()
    rates.viewsPerSecond = Double(new.views - old.step.views) / seconds
    rates.dataWaitShare = min(1, max(0, (new.secondsWaited - old.step.secondsWaited) / seconds))
    let communicating = new.secondsCommunicating - old.step.secondsCommunicating
    rates.communicationShare = min(1, max(0, communicating / seconds))
    rates.seconds = now - start
    let steps = new.step - old.step.step
    if steps > 0 { rates.secondsLeft = seconds / Double(steps) * Double(max(0, end - new.step)) }
    return rates
  }

  private func show(_ step: Step, _ now: Double) {
    shown = now
    if terminal {
      // The last column stays free, because some terminals wrap when it is written.
      sink("\r" + line(step, fitting: max(1, columns() - 1)) + "\u{1B}[K")
      isLineOpen = true
    } else {
      sink(line(step, fitting: .max) + "\n")
    }
  }

  /// The line with the fields that fit; the least important fields are dropped first.
  private func line(_ step: Step, fitting width: Int) -> String {
    let share = end > 0 ? Double(step.step) / Double(end) : 1
    var fields: [(need: Int, text: String)] = [
      (9, "step \(step.step)/\(end)"), (4, "\(fixed(share * 100, 0)) %"), (3, "epoch \(fixed(step.epoch, 1))"),
      (8, "loss \(significant(step.loss))"), (5, "rate \(significant(step.rate))"),
      (6, "\(fixed(rates.viewsPerSecond, rates.viewsPerSecond < 10 ? 1 : 0)) views/s"),
      (2, "data \(fixed(rates.dataWaitShare * 100, 0)) %"), (1, "comm \(fixed(rates.communicationShare * 100, 0)) %"),
    ]
    if let left = rates.secondsLeft, step.step < end { fields.append((7, "\(duration(left)) left")) }
    if step.step >= end { fields.append((7, "in \(duration(rates.seconds))")) }
    func text() -> String { fields.map(\.text).joined(separator: "  ") }
    while fields.count > 1, text().count > width,
      let least = fields.indices.min(by: { fields[$0].need < fields[$1].need })
    {
      fields.remove(at: least)
    }
    return String(text().prefix(width))
  }
}
