import Foundation
import Testing

extension CommandTests {
  /// Output that cannot be written. A run continues without it; a command whose result is its output fails.
  @Suite final class OutputTests {
    let work: Workplace
    init() throws { work = try Workplace() }

    /// Ways to start a program whose output is lost.
    enum Sink: String, CaseIterable {
      case full = "exec \"$@\" > /dev/full"
      case closed = "exec \"$@\" >&-"
      case allClosed = "exec \"$@\" <&- >&- 2>&-"
      case reader = "\"$@\" | true; exit ${PIPESTATUS[0]}"
    }

    private func through(_ sink: Sink, _ arguments: [String]) throws -> Job.Outcome {
      try Job(arguments, wrapper: ["bash", "-c", sink.rawValue, "bash"], in: work.path).outcome()
    }

    @Test(arguments: Sink.allCases) func aRunGoesOn(_ sink: Sink) throws {
      let run = work.path + "/run"
      let outcome = try through(
        sink,
        [
          "pretrain", Workplace.recipe("simclr"), "--data", work.data(), "--run", run, "--threads", "1", "--set",
          "length=8 steps",
        ])
      #expect(outcome.status == 0, "\(outcome.output)")
      #expect(work.isComplete(run) && work.checkpoints(run).last == 8)
      #expect(try work.losses(run).map(\.step) == Array(1...8), "no foreign lines in the metrics")
      #expect(try work("inspect", run, "--verify").status == 0)
    }

    @Test(arguments: [["recipes", "show", "simclr-v1-fashion"], ["recipes"], ["--help"], ["inspect", "DATA"]])
    func lostResultsAreAFailure(_ words: [String]) throws {
      let words = try words.map { $0 == "DATA" ? try work.data() + "/train" : $0 }
      #expect(try Job(words, in: work.path).outcome().status == 0)
      let full = try through(.full, words)
      #expect(full.status == 1 && full.output.contains("No space left on device"), "\(full.output)")
      #expect(full.output.contains("cannot write to standard output"), "\(full.output)")
      #expect(try through(.closed, words).status != 0)
    }
  }
}
