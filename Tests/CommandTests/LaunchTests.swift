import Foundation
import Testing

extension CommandTests {
  /// Environments of clusters and containers.
  @Suite final class LaunchTests {
    let work: Workplace
    init() throws { work = try Workplace() }

    private static let step = [
      "bench", "--arch", "resnet18", "--width", "0.125", "--size", "8", "--images", "2", "--threads", "1", "--steps",
      "1",
    ]

    /// The launcher of another MPI starts processes that do not find each other.
    @Test(arguments: ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
    func processesThatDoNotKnowOfOneAnotherAreRefused(_ variable: String) throws {
      let outcome = try Job(Self.step, wrapper: ["env", "\(variable)=4"], in: work.path).outcome()
      #expect(outcome.status == 1, "\(outcome.output)")
      #expect(outcome.output.contains("the launcher started 4 processes (\(variable))"), "\(outcome.output)")
      #expect(outcome.output.contains("mpirun") && outcome.output.contains("env -u \(variable)"))
      let one = try Job(Self.step, wrapper: ["env", "\(variable)=1", "SLURM_NTASKS=4"], in: work.path).outcome()
      #expect(one.status == 0, "\(one.output)")
    }

    private static let otherLauncher = "/usr/bin/mpirun.mpich"

    /// A real launcher of another MPI: one process says it, all end.
    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: otherLauncher), "MPICH is not installed"))
    func theLauncherOfAnotherMPIIsNamed() throws {
      let outcome = try Job(Self.step, wrapper: [Self.otherLauncher, "-n", "2"], in: work.path).outcome(within: 60)
      #expect(outcome.status == 1, "\(outcome.output)")
      let words = "the launcher started 2 processes (PMI_SIZE), but to Open MPI"
      #expect(outcome.output.components(separatedBy: words).count == 2, "\(outcome.output)")
    }

    /// Micro-kernels are chosen at the start by name.
    @Test func kernelsAreChosenByName() throws {
      for name in ["simd", "plain"] {
        let outcome = try Job(Self.step, wrapper: ["env", "APUS_KERNELS=\(name)"], in: work.path).outcome()
        #expect(outcome.status == 0, "\(outcome.output)")
      }
      let outcome = try Job(Self.step, wrapper: ["env", "APUS_KERNELS=quantum"], in: work.path).outcome()
      #expect(outcome.status == 1 && outcome.output.contains("APUS_KERNELS is quantum; this processor can run"))
    }

    /// A container has no `ssh`, and a process without a launcher needs none.
    @Test func noRemoteShellIsNeeded() throws {
      let outcome = try Job(Self.step, wrapper: ["env", "PATH="], in: work.path).outcome()
      #expect(outcome.status == 0, "\(outcome.output)")
    }

    /// Whether this user may mount a private /dev/shm for a process.
    private static let canMount: Bool = {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      process.arguments = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/dev/shm"]
      process.standardError = FileHandle.nullDevice
      guard (try? process.run()) != nil else { return false }
      process.waitUntilExit()
      return process.terminationStatus == 0
    }()

    /// Ranks that cannot share memory warn once, and sum over MPI.
    @Test(
      .enabled(if: canMount, "a /dev/shm of its own needs a privilege"),
      arguments: [("64k", 0, 2), ("1m", 0, 2), ("3m", 0, 2), ("64m", 60, 4)])
    func aSmallSharedMemoryIsDoneWithout(_ size: String, _ used: Int, _ ranks: Int) throws {
      let mount = "mount -t tmpfs -o size=\(size) tmpfs /dev/shm && head -c \(used)M /dev/zero > /dev/shm/used"
      let wrapper = ["unshare", "-m", "bash", "-c", mount + " && exec \"$@\"", "bash"]
      let outcome = try Job(Self.step, ranks: ranks, wrapper: wrapper, in: work.path).outcome(within: 60)
      #expect(outcome.status == 0, "\(outcome.output)")
      #expect(
        outcome.output.components(separatedBy: "the ranks of a node cannot share").count == 2
          && outcome.output.contains("KiB of memory (is /dev/shm full, or small?)"), "\(outcome.output)")
    }

    /// Limits of a shell or batch system are reported before step 0.
    @Test(arguments: [("-v 300000", "ulimit -v"), ("-v 600000", "ulimit -v"), ("-f 8", "ulimit -f")])
    func limitsAreNamed(_ limit: String, _ words: String) throws {
      let arguments = [
        "pretrain", Workplace.recipe("simclr"), "--data", try work.data(), "--run", work.path + "/run", "--threads",
        "1",
        "--set", "length=4 steps",
      ]
      let job = try Job(arguments, wrapper: ["bash", "-c", "ulimit \(limit); exec \"$@\"", "bash"], in: work.path)
      let outcome = job.outcome(within: 60)
      #expect(outcome.status == 1 && outcome.output.contains(words), "\(outcome.output)")
      #expect(!outcome.output.contains("Fatal error"), "\(outcome.output)")
    }

    /// Every command ends in words where there are too few addresses, or does without more.
    @Test(arguments: ["300000", "450000"], ["evaluate", "export", "pack", "inspect"])
    func aLimitOfAddressesEndsNoCommandWithoutWords(_ limit: String, _ command: String) throws {
      let data = try work.data()
      let run = work.path + "/run"
      if command == "evaluate" || command == "export" {
        #expect(try work.pretrain(ranks: nil, run: run, ["length=1 steps"]).outcome().status == 0)
      }
      let words = [
        "evaluate": ["evaluate", run, "--data", data, "--threads", "1"],
        "export": ["export", run, work.path + "/weights"],
        "pack": ["pack", Job.root + "/Tests/ShardsTests/Fixtures/hostile", work.path + "/packed", "--threads", "1"],
        "inspect": ["inspect", data, "--verify", "--threads", "1"],
      ]
      let job = try Job(
        words[command]!, wrapper: ["bash", "-c", "ulimit -v \(limit); exec \"$@\"", "bash"], in: work.path)
      let outcome = job.outcome(within: 60)
      let isRefused = outcome.status == 1 && outcome.output.contains("ulimit -v")
      let mayWork = limit == "450000" && (command == "pack" || command == "inspect")
      #expect(isRefused || mayWork && outcome.status == 0, "\(outcome.status): \(outcome.output)")
      #expect(!outcome.output.contains("Fatal error"), "\(outcome.output)")
    }

    @Test(arguments: ["pack", "inspect", "pretrain"]) func tooFewOpenFilesAreSaid(_ command: String) throws {
      let data = try work.data("--shard-size", "4KiB")
      let words = [
        "pack": [
          "pack", Workplace.fashion, work.path + "/packed", "--limit", "400", "--shard-size", "4KiB", "--threads", "1",
        ],
        "inspect": ["inspect", data + "/train"],
        "pretrain": [
          "pretrain", Workplace.recipe("simclr"), "--data", data, "--run", work.path + "/run", "--threads", "1",
        ],
      ]
      let outcome = try Job(
        words[command]!, wrapper: ["bash", "-c", "ulimit -n 40; exec \"$@\"", "bash"], in: work.path
      ).outcome(within: 60)
      #expect(outcome.status == 1, "\(outcome.output)")
      #expect(
        outcome.output.contains("this process may have 40 files open, and a data set needs one for each shard: ")
          && outcome.output.contains("raise the limit (`ulimit -n`), or make fewer shards (`apus shard`)"),
        "\(outcome.output)")
      #expect(!FileManager.default.fileExists(atPath: work.path + "/packed"))
    }

    /// Up to the hard limit, the program raises the soft one by itself.
    @Test func theSoftLimitOfOpenFilesIsRaised() throws {
      let data = try work.data("--shard-size", "4KiB")
      let outcome = try Job(
        ["inspect", data + "/train"], wrapper: ["bash", "-c", "ulimit -Sn 40; exec \"$@\"", "bash"], in: work.path
      ).outcome(within: 60)
      #expect(outcome.status == 0, "\(outcome.output)")
    }

    /// A program and its arguments that start another as a user without processes; `ulimit -u` binds no root.
    private static let stranger = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]

    /// Whether this user may start the program as that one.
    private static let canBecomeStranger: Bool = {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      process.arguments = stranger + ["test", "-x", Job.apus]
      process.standardError = FileHandle.nullDevice
      guard (try? process.run()) != nil else { return false }
      process.waitUntilExit()
      return process.terminationStatus == 0
    }()

    @Test(.enabled(if: canBecomeStranger, "becoming another user needs a privilege")) func tooFewThreadsAreSaid() throws
    {
      let outcome = try Job(
        Self.step, wrapper: Self.stranger + ["bash", "-c", "ulimit -u 4; exec \"$@\"", "bash"], in: work.path
      ).outcome(within: 60)
      #expect(outcome.status == 1, "\(outcome.output)")
      #expect(
        outcome.output.contains("cannot start 1 compute thread and 4 others: Resource temporarily unavailable; ")
          && outcome.output.contains("ulimit -u is 4: raise it, or ask for fewer threads"), "\(outcome.output)")
    }

    @Test(arguments: [
      ["--group", "0"], ["--group", "-3"], ["--images", "100000000"], ["--images", "0"], ["--size", "-1"],
      ["--size", "99999999999"], ["--channels", "0"], ["--steps", "0"], ["--threads", "0"], ["--threads", "99999999"],
      ["--width", "nan"], ["--width", "1e9"],
    ])
    func numbersOfABenchAreChecked(_ words: [String]) throws {
      let outcome = try Job(["bench"] + words, in: work.path).outcome()
      #expect(outcome.status == 64 && outcome.output.contains(words[0]), "\(outcome.output)")
    }

    @Test(arguments: [["pack", "a", "b"], ["inspect", "a"]], ["0", "99999999999"])
    func threadsOfOtherCommandsAreChecked(_ words: [String], _ threads: String) throws {
      let outcome = try Job(words + ["--threads", threads], in: work.path).outcome()
      #expect(outcome.status == 64 && outcome.output.contains("it must be 1 to 1024"), "\(outcome.output)")
    }

    /// What has nothing to save ends at once.
    @Test(arguments: [SIGTERM, SIGINT]) func aBenchEndsWithASignal(_ signal: Int32) throws {
      let words = ["bench", "--width", "0.125", "--images", "4", "--threads", "1", "--steps", "1000000"]
      let job = try Job(words, wrapper: ["timeout", "-s", "\(signal)", "-k", "30", "3"], in: work.path)
      let start = ContinuousClock.now
      let outcome = job.outcome(within: 60)
      #expect(outcome.status != 0 && ContinuousClock.now - start < .seconds(25), "\(outcome.output)")
    }

  }
}
