import Foundation
import Shards
import Testing
import Training

/// A clock and a terminal for one progress line.
private final class Screen {
  var now = 100.0
  var columns = 120
  var text = ""
  func progress(to end: Int, terminal: Bool) -> RunProgress {
    RunProgress(
      from: 0, to: end, terminal: terminal, columns: { self.columns }, clock: { self.now }, sink: { self.text += $0 })
  }
  /// Contents of the last line after carriage returns and erasures.
  var visible: String {
    String(
      text.split(separator: "\n", omittingEmptySubsequences: false).last!.split(
        separator: "\r", omittingEmptySubsequences: false
      ).last!
    )
    .replacingOccurrences(of: "\u{1B}[K", with: "")
  }
}

private func step(_ step: Int) -> RunProgress.Step {
  RunProgress.Step(
    step: step, epoch: Double(step) / 40, loss: 5.43219, rate: 0.3, views: step * 512,
    secondsWaited: Double(step) * 0.002,
    secondsCommunicating: Double(step) * 0.005)
}

@Suite struct ProgressTests {
  @Test func theTerminalLineSaysAll() {
    let screen = Screen()
    let progress = screen.progress(to: 5000, terminal: true)
    for i in 1...1200 {
      screen.now += 0.25
      progress.advance(step(i))
    }
    #expect(
      screen.visible
        == "step 1200/5000  24 %  epoch 30.0  loss 5.432  rate 0.3  2048 views/s  data 1 %  comm 2 %  16 min left")
    #expect(!screen.text.contains("\n"))
    progress.finish()
    #expect(screen.text.hasSuffix("\n"))
  }

  @Test func isRefreshedFiveTimesASecondAtMost() {
    let screen = Screen()
    let progress = screen.progress(to: 100_000, terminal: true)
    for i in 1...10_000 {
      screen.now += 0.001
      progress.advance(step(i))
    }
    let shown = screen.text.split(separator: "\r").count
    #expect((45...50).contains(shown))
  }

  @Test func fitsTheWidth() {
    for columns in [1, 10, 20, 40, 61, 79, 80, 100, 200] {
      let screen = Screen()
      let progress = screen.progress(to: 5000, terminal: true)
      screen.columns = columns
      for i in 1...20 {
        screen.now += 1
        progress.advance(step(i))
      }
      #expect(screen.visible.count < max(2, columns))
      if columns == 61 { #expect(screen.visible == "step 20/5000  loss 5.432  rate 0.3  512 views/s  83 min left") }
      if columns >= 40 { #expect(screen.visible.contains("loss 5.432") && screen.visible.contains("step 20/5000")) }
    }
  }

  @Test func plainLinesAreRare() {
    let screen = Screen()
    let progress = screen.progress(to: 1000, terminal: false)
    for i in 1...1000 {
      screen.now += 0.1
      progress.advance(step(i), logged: i == 555)
    }
    let lines = screen.text.split(separator: "\n")
    // The first step, one every 10 s of the 100 s, the logged one, and the last.
    #expect((11...13).contains(lines.count))
    #expect(lines.contains { $0.hasPrefix("step 555/1000  56 %") })
    #expect(
      lines.last
        == "step 1000/1000  100 %  epoch 25.0  loss 5.432  rate 0.3  5120 views/s  data 2 %  comm 5 %  in 2 min")
    #expect(!screen.text.contains("\r") && !screen.text.contains("\u{1B}"))
  }

  @Test func otherWordsGetALineOfTheirOwn() {
    let screen = Screen()
    let progress = screen.progress(to: 10, terminal: true)
    screen.now += 1
    progress.advance(step(1))
    progress.say("checkpoint at step 1")
    #expect(screen.text.hasSuffix("\r\u{1B}[Kcheckpoint at step 1\n"))
    progress.finish()
    #expect(screen.text.hasSuffix("step 1\n"))
  }

  @Test func ratesFollowTheLastHalfMinute() {
    let screen = Screen()
    let progress = screen.progress(to: 10_000, terminal: false)
    for i in 1...100 {
      screen.now += 1
      progress.advance(step(i))
    }
    for i in 101...1000 {
      screen.now += 0.1
      progress.advance(step(i))
    }
    #expect(abs(progress.rates.viewsPerSecond - 5120) < 1)
    #expect(abs(progress.rates.secondsLeft! - 900) < 1)
    #expect(abs(progress.rates.seconds - 190) < 1e-6)
    #expect(progress.rates.timing["communication_share"] == .number(0.05))
  }

  /// Reports at short intervals are not all kept, and the rate is that of the last half minute all the same.
  @Test func fastStepsHaveARateToo() {
    let screen = Screen()
    let progress = screen.progress(to: 100_000, terminal: false)
    for i in 1...60_000 {
      screen.now += i <= 20_000 ? 0.01 : 0.001
      progress.advance(step(i))
    }
    #expect(abs(progress.rates.viewsPerSecond - 512_000) < 1)
    #expect(abs(progress.rates.secondsLeft! - 40) < 1e-3)
    #expect(progress.kept <= 62)
  }

  @Test func slowStepsHaveARateToo() {
    let screen = Screen()
    let progress = screen.progress(to: 4, terminal: false)
    screen.now += 100
    progress.advance(step(1))
    screen.now += 100
    progress.advance(step(2))
    #expect(abs(progress.rates.secondsLeft! - 200) < 1e-9)
  }

  @Test func numbersAndTimesAreShort() {
    #expect(
      [0, 45, 99.4, 100, 720, 5940, 6000, 11_100, 200_000].map(duration)
        == ["0 s", "45 s", "99 s", "2 min", "12 min", "99 min", "1 h 40 min", "3 h 05 min", "2 d 7 h"])
    #expect(
      [0, 0.3, 5.43219, -0.00012345, 1e-7, 123456, 1.5e9, 99999].map(significant)
        == ["0", "0.3", "5.432", "-0.0001235", "1e-7", "123456", "1.5e9", "99999"])
    #expect(significant(.nan) == "nan")
  }
}
