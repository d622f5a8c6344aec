import Foundation
import Testing

extension CommandTests {
  /// Failures in the middle of a run: the whole job ends, and nothing that was saved is lost.
  @Suite final class FailureTests {
    let work: Workplace
    let run: String
    init() throws {
      work = try Workplace()
      run = work.path + "/run"
    }

    static let canMount = mounts()

    private static func command(_ words: String...) -> Bool {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      process.arguments = words
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      guard (try? process.run()) != nil else { return false }
      process.waitUntilExit()
      return process.terminationStatus == 0
    }

    private static func mounts() -> Bool {
      guard let work = try? Workplace() else { return false }
      defer { _ = command("umount", work.path) }
      return command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", work.path)
    }

    private func freeBytes(_ path: String) -> Int {
      var information = statvfs()
      return statvfs(path, &information) == 0 ? Int(information.f_bavail) * Int(information.f_frsize) : 0
    }

    @Test(.enabled(if: canMount, "mounting a small file system needs a privilege")) func aDiskThatFillsUpEndsTheJob()
      throws
    {
      let disk = work.path + "/disk"
      let run = disk + "/run"
      let ballast = disk + "/ballast"
      try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
      try #require(Self.command("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk))
      defer { _ = Self.command("umount", "-l", disk) }
      let changes = ["length=120 steps"]
      let job = try work.pretrain(run: run, changes)
      #expect(job.wait { !work.checkpoints(run).isEmpty }, "\(job.output)")
      // Leave room that is too small for a checkpoint but large enough for the metrics.
      _ = FileManager.default.createFile(atPath: ballast, contents: nil)
      let handle = try #require(FileHandle(forWritingAtPath: ballast))
      let filled = ContinuousClock.now
      while job.isRunning, ContinuousClock.now - filled < .seconds(60) {
        let excess = freeBytes(disk) - 600_000
        if excess > 0 { try? handle.write(contentsOf: Data(count: excess)) } else { usleep(1000) }
      }
      try handle.close()
      let outcome = job.outcome()
      #expect(outcome.status == 1, "\(outcome.output)")
      #expect(outcome.output.contains("cannot write checkpoint \(run)/checkpoints/step-"), "\(outcome.output)")
      #expect(outcome.output.contains("MiB are free"))
      #expect(outcome.output.contains("No space left on device"), "\(outcome.output)")
      #expect(outcome.output.contains("earlier checkpoints are whole: make room and start again"))
      let shown = try work("inspect", run, "--verify")
      #expect(shown.status == 0 && shown.output.contains("is whole"), "\(shown.output)")
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: run + "/checkpoints").allSatisfy { $0.hasPrefix("step-") },
        "nothing half-written stays")
      try FileManager.default.removeItem(atPath: ballast)
      let rest = try work.pretrain(run: run, changes).outcome()
      #expect(rest.status == 0 && work.isComplete(run), "\(rest.output)")
      #expect(try work.losses(run).map(\.step) == Array(1...120))
    }

    @Test(arguments: ["simclr", "moco"]) func aValueThatIsNotFiniteStopsTheRun(_ method: String) throws {
      let good = try work.pretrain(method, run: run, ["length=4 steps"]).outcome()
      #expect(good.status == 0, "\(good.output)")
      let checkpoint = run + "/checkpoints/step-00000004/state.h5"
      let saved = FileManager.default.contents(atPath: checkpoint)
      let wild = ["length=40 steps", "optimizer.rate=1e38", "schedule={name: constant}", "checkpoint.every=100 steps"]
      let bad = try work.pretrain(method, run: run, wild).outcome()
      #expect(bad.status == 1 && bad.seconds < Workplace.soon, "\(bad.output)")
      // The first step moves the weights out of range, and the next one detects it.
      #expect(bad.output.contains("error: step 6: loss "), "\(bad.output)")
      #expect(bad.output.contains("the first value that is not finite came out of encoder."), "\(bad.output)")
      #expect(bad.output.contains(" on rank ") && bad.output.contains("whose images are samples "))
      #expect(
        bad.output.contains("the checkpoint of step 4 is untouched: start again with a lower rate or a longer warm-up"))
      // Here the update itself gives values that are not finite, right before a checkpoint is due.
      let wilder = try work.pretrain(
        method, run: run, ["length=40 steps", "optimizer.rate=1e40", "schedule={name: constant}"]
      ).outcome()
      #expect(wilder.status == 1 && wilder.seconds < Workplace.soon)
      #expect(
        wilder.output.contains(
          "error: after step 5 the weights of encoder.conv1.weight are not finite; nothing was saved"),
        "\(wilder.output)")
      #expect(!work.isComplete(run) && work.checkpoints(run) == [4])
      #expect(FileManager.default.contents(atPath: checkpoint) == saved)
      let shown = try work("inspect", run, "--verify")
      #expect(shown.status == 0, "\(shown.output)")
      let rest = try work.pretrain(method, run: run, ["length=8 steps"]).outcome()
      #expect(rest.status == 0 && work.isComplete(run), "\(rest.output)")
      #expect(try work.losses(run).map(\.step) == Array(1...8))
    }

    /// One rank finds the damage while the others wait for it in a collective; all must end.
    @Test func anImageThatWasDamagedLaterEndsTheJob() throws {
      let images = Job.root + "/Tests/ShardsTests/Fixtures/hostile"
      let data = work.path + "/photographs"
      let packed = try work("pack", images, data)
      #expect(packed.status == 0, "\(packed.output)")
      let shard = URL(fileURLWithPath: data + "/shard-00000.h5")
      var bytes = try Data(contentsOf: shard)
      let start = try #require(bytes.range(of: Data([0xFF, 0xD8, 0xFF]))).lowerBound
      bytes.replaceSubrange(start..<start + 16, with: Data(count: 16))
      try bytes.write(to: shard)
      let outcome = try work(
        "pretrain", Workplace.recipe("simclr"), "--data", data, "--run", run, "--threads", "1", "--set",
        "length=20 epochs", "--set",
        "batch=20", ranks: 3)
      #expect(outcome.status == 1 && outcome.seconds < 2 * Workplace.soon, "\(outcome.output)")
      #expect(
        outcome.output.contains("of 3, ") && outcome.output.contains("error: cannot load sample "), "\(outcome.output)")
      let shown = try work("inspect", data, "--verify")
      #expect(shown.status == 1 && shown.output.contains("damaged: image "), "\(shown.output)")
    }
  }
}
