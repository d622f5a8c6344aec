import Foundation
import Testing

extension CommandTests {
  /// Runs that are stopped, killed or ended, and resumed by the same command.
  @Suite final class StopTests {
    let work: Workplace
    let run: String
    init() throws {
      work = try Workplace()
      run = work.path + "/run"
    }

    /// Resumes a run by the same command. It must complete, with each step once in its metrics.
    private func goesOn(_ method: String = "simclr", ranks: Int? = 2, to length: Int, _ changes: [String]) throws {
      let rest = try work.pretrain(method, ranks: ranks, run: run, changes).outcome()
      #expect(rest.status == 0, "\(rest.output)")
      #expect(work.isComplete(run))
      #expect(work.checkpoints(run).last == length)
      #expect(try work.losses(run).map(\.step) == Array(1...length))
    }

    @Test func aRankThatDiesEndsTheJob() throws {
      let job = try work.pretrain(ranks: 3, run: run, ["length=120 steps"])
      #expect(job.wait { !work.checkpoints(run).isEmpty }, "\(job.output)")
      let ranks = job.ranks
      try #require(ranks.count == 3, "the processes of \(job.launcher): \(ranks)")
      let killed = ContinuousClock.now
      kill(ranks[1], SIGKILL)
      let outcome = job.outcome(from: killed)
      #expect(outcome.status != 0, "\(outcome.output)")
      #expect(outcome.seconds < 10)
      #expect(!work.isComplete(run))
      let whole = try work("inspect", run, "--verify")
      #expect(
        whole.status == 0 && whole.output.contains("is whole") && whole.output.contains("not complete"),
        "\(whole.output)")
      try goesOn(ranks: 3, to: 120, ["length=120 steps"])
    }

    /// Before the first checkpoint there is nothing to resume from, and the metrics start over.
    @Test func aRunThatDiesEarlyStartsOver() throws {
      let changes = ["length=120 steps", "checkpoint.every=100 steps"]
      let job = try work.pretrain(run: run, changes)
      #expect(job.wait { ((try? work.losses(run)) ?? []).count > 3 }, "\(job.output)")
      kill(job.launcher, SIGKILL)
      let outcome = job.outcome()
      #expect(outcome.status != 0)
      try #require(work.checkpoints(run).isEmpty, "the machine was too fast for this test")
      try goesOn(to: 120, changes)
    }

    enum Target: String, CaseIterable { case launcher, rank }
    @Test(arguments: [(SIGUSR1, Target.launcher), (SIGUSR1, .rank), (SIGTERM, .rank), (SIGINT, .rank), (SIGHUP, .rank)])
    func aSignalStopsAllRanksAfterTheSameStep(_ signal: Int32, _ target: Target) throws {
      let changes = ["length=120 steps", "checkpoint.every=100 steps"]
      let job = try work.pretrain(run: run, changes)
      #expect(job.wait { ((try? work.losses(run)) ?? []).count > 3 }, "\(job.output)")
      let sent = ContinuousClock.now
      kill(target == .launcher ? job.launcher : try #require(job.ranks.last), signal)
      let outcome = job.outcome(from: sent)
      #expect(outcome.status == 0, "\(outcome.output)")
      #expect(outcome.seconds < Workplace.soon)
      #expect(!work.isComplete(run))
      let stopped = try #require(work.checkpoints(run).last, "\(outcome.output)")
      #expect(
        outcome.output.contains(
          "Stopped on a signal after step \(stopped) of 120; the same command goes on from there."), "\(outcome.output)"
      )
      #expect(try work.losses(run).last?.step == stopped)
      #expect(stopped < 100)
      try goesOn(to: 120, changes)
    }

    /// A run without a launcher, whose terminal is closed or whose batch system ends it.
    @Test(arguments: [SIGHUP, SIGTERM]) func aSignalStopsARunWithoutALauncher(_ signal: Int32) throws {
      let changes = ["length=120 steps", "checkpoint.every=100 steps"]
      let job = try work.pretrain(ranks: nil, run: run, changes)
      #expect(job.wait { ((try? work.losses(run)) ?? []).count > 3 }, "\(job.output)")
      kill(job.launcher, signal)
      let outcome = job.outcome()
      #expect(outcome.status == 0 && !work.isComplete(run), "\(outcome.output)")
      let stopped = try #require(work.checkpoints(run).last, "\(outcome.output)")
      #expect(outcome.output.contains("Stopped on a signal after step \(stopped) of 120"), "\(outcome.output)")
      try goesOn(ranks: nil, to: 120, changes)
    }

    /// `mpirun` decides status and time of a job that it ends on TERM; the checkpoint must be there.
    @Test func termToTheLauncherLeavesACheckpoint() throws {
      let changes = ["length=120 steps", "checkpoint.every=100 steps"]
      let job = try work.pretrain(run: run, changes)
      #expect(job.wait { ((try? work.losses(run)) ?? []).count > 3 }, "\(job.output)")
      let sent = ContinuousClock.now
      kill(job.launcher, SIGTERM)
      let outcome = job.outcome(from: sent)
      #expect(outcome.seconds < Workplace.soon)
      #expect(!work.isComplete(run))
      #expect(work.checkpoints(run).last != nil, "\(outcome.output)")
      try goesOn(to: 120, changes)
    }

    @Test func aFinishedRunSaysSoAndCanBeLengthened() throws {
      let first = try work.pretrain(run: run, ["length=6 steps"]).outcome()
      #expect(first.status == 0 && work.isComplete(run), "\(first.output)")
      let metrics = try String(contentsOfFile: run + "/metrics.jsonl", encoding: .utf8)
      let again = try work.pretrain(run: run, ["length=6 steps"]).outcome()
      #expect(again.status == 0 && work.isComplete(run))
      #expect(
        again.output.contains("The run in \(run) is complete: 6 steps. To go on, lengthen it: --set length="),
        "\(again.output)")
      #expect(!again.output.contains("step 6/6") && !again.output.contains("Resuming"))
      #expect(try String(contentsOfFile: run + "/metrics.jsonl", encoding: .utf8) == metrics)
      let longer = try work.pretrain(run: run, ["length=9 steps"]).outcome()
      #expect(longer.status == 0 && work.isComplete(run), "\(longer.output)")
      #expect(longer.output.contains("Changed since the checkpoint: length: 6 steps → 9 steps"), "\(longer.output)")
      #expect(try work.losses(run).map(\.step) == Array(1...9))
      #expect(try String(contentsOfFile: run + "/metrics.jsonl", encoding: .utf8).hasPrefix(metrics))
      let shorter = try work.pretrain(run: run, ["length=4 steps"]).outcome()
      #expect(
        shorter.status == 1 && shorter.output.contains("has done 9 steps, the recipe's length is 4: lengthen it"),
        "\(shorter.output)")
    }

    /// A killed job of several stages resumes in its stage, or between two stages.
    @Test(arguments: [12, 17, 30]) func aRunOfStagesThatIsKilledEndsTheSame(_ step: Int) throws {
      let whole = work.path + "/whole"
      let first = try work.pretrain("stages", run: whole).outcome()
      #expect(first.status == 0 && work.isComplete(whole), "\(first.output)")
      #expect(work.checkpoints(whole) == [17, 40, 55, 60])
      let job = try work.pretrain("stages", run: run)
      #expect(job.wait { (work.checkpoints(run).last ?? 0) >= step }, "\(job.output)")
      for rank in job.ranks { kill(rank, SIGKILL) }
      _ = job.outcome()
      #expect(!work.isComplete(run))
      try goesOn("stages", to: 60, [])
      for step in [17, 40, 60] {
        let name = "/checkpoints/" + "step-000000\(step)"
        #expect(try arrays(run + name) == arrays(whole + name), "\(step)")
      }
      #expect(try work.losses(run).map(\.loss) == work.losses(whole).map(\.loss))
    }

    /// The arrays of a checkpoint as `inspect` prints them.
    private func arrays(_ checkpoint: String) throws -> Substring {
      let shown = try work("inspect", checkpoint)
      let start = try #require(shown.output.range(of: "array, shape"), "\(shown.output)")
      return shown.output[start.lowerBound...]
    }

    /// Another number of ranks adds in another order, so one step differs by rounding.
    @Test(arguments: ["simclr", "moco", "end-to-end", "byol", "swav"]) func anotherNumberOfRanksGoesOnWithinRounding(
      _ method: String
    ) throws {
      let changes = ["length=12 steps"]
      let whole = try work.pretrain(method, run: run, changes).outcome()
      #expect(whole.status == 0 && work.checkpoints(run) == [10, 12], "\(whole.output)")
      let other = work.path + "/other"
      try FileManager.default.copyItem(atPath: run, toPath: other)
      try FileManager.default.removeItem(atPath: other + "/checkpoints/step-00000012")
      let resumed = try work.pretrain(method, ranks: 3, run: other, changes).outcome()
      #expect(resumed.status == 0 && work.isComplete(other), "\(resumed.output)")
      #expect(resumed.output.contains("Changed since the checkpoint: ranks 2 → 3"), "\(resumed.output)")
      #expect(resumed.output.contains("Resuming \(other) after step 10: equal within rounding"), "\(resumed.output)")
      let a = try work.losses(run)
      let b = try work.losses(other)
      #expect(a.map(\.step) == Array(1...12) && b.map(\.step) == Array(1...12))
      for (a, b) in zip(a, b).prefix(10) { #expect(a.loss == b.loss) }
      let difference = abs(a[10].loss - b[10].loss) / a[10].loss
      #expect(difference < 1e-4)
      #expect(a[10].loss != a[9].loss)
    }

    /// The run of another method or data set is not changed.
    @Test func aRunOfSomethingElseIsLeftAlone() throws {
      let first = try work.pretrain(ranks: nil, run: run, ["length=2 steps"]).outcome()
      #expect(first.status == 0, "\(first.output)")
      let moco = try work.pretrain("moco", ranks: 2, run: run, ["length=4 steps"]).outcome()
      #expect(moco.status == 1 && moco.seconds < Workplace.soon)
      #expect(moco.output.contains("it was written by another method; choose another --run"), "\(moco.output)")
      let data = try work(
        "pretrain", Workplace.recipe("simclr"), "--data", work.data() + "/test", "--run", run, "--set", "length=4 steps"
      )
      #expect(data.status == 1 && data.output.contains("was trained on other data"), "\(data.output)")
      #expect(try work("inspect", run, "--verify").status == 0)
      #expect(try work.losses(run).map(\.step) == [1, 2])
    }
  }
}
