import Foundation
import Testing
import Threading

extension CommandTests {
  /// The output of `apus bench`. Speed is measured by Scripts/bench-peer.
  @Suite final class BenchTests {
    let work: Workplace
    init() throws { work = try Workplace() }

    /// The last line as JSON.
    private func json(_ outcome: Job.Outcome) throws -> [String: Any] {
      let line = try #require(outcome.output.split(separator: "\n").last, "\(outcome.output)")
      return try #require(
        try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any], "\(outcome.output)")
    }

    @Test func viewsAreThoseOfTheRecipe() throws {
      let data = try work.data()
      let outcome = try work(
        "bench", "views", Workplace.recipe("simclr"), "--data", data, "--seconds", "0.05", "--json")
      #expect(outcome.status == 0, "\(outcome.output)")
      let result = try json(outcome)
      #expect(result["views_per_image"] as? Int == 2 && result["images"] as? Int ?? 0 >= 16)
      #expect(result["bytes_per_image"] as? Double == 784.0)
      // The recipe ends with `normalise: dataset`.
      let mean = try #require(result["mean"] as? Double)
      let deviation = try #require(result["deviation"] as? Double)
      #expect(abs(mean) < 0.3 && abs(deviation - 1) < 0.2, "mean \(mean), deviation \(deviation)")
      let view = try #require((result["views"] as? [[String: Any]])?.first)
      #expect(view["size"] as? Int == 16 && (view["operations"] as? [[String: Any]])?.count == 3)
    }

    /// Arguments of a small step.
    private let words = [
      "--arch", "resnet18", "--width", "0.125", "--size", "8", "--images", "2", "--threads", "1", "--json",
    ]

    @Test func withoutANameAStepIsTimed() throws {
      for name in [["bench"], ["bench", "step"]] {
        let outcome = try Job(name + words + ["--steps", "1"], in: work.path).outcome()
        #expect(outcome.status == 0, "\(outcome.output)")
        #expect(try json(outcome)["views_per_second"] as? Double ?? 0 > 0)
      }
    }

    /// The step of a recipe's last stage, and what a frozen encoder saves: gradients that are neither kept nor sent.
    @Test func aRecipesStepIsTimed() throws {
      let words = [
        "bench", "step", "--recipe", Workplace.recipe("simclr"), "--channels", "1", "--images", "4", "--threads", "1",
        "--steps", "1", "--json",
      ]
      let whole = try json(Job(words, in: work.path).outcome())
      let frozen = try json(
        Job(words + ["--set", "parameters=[{part: encoder, trains: false}]"], in: work.path).outcome())
      #expect(whole["views_per_second"] as? Double ?? 0 > 0)
      for key in ["sent_bytes", "activation_bytes", "state_bytes"] {
        let (all, some) = (whole[key] as? Double ?? 0, frozen[key] as? Double ?? .infinity)
        #expect(some > 0 && some < all, "\(key): \(some) of \(all)")
      }
      let mixed = try Job(words + ["--arch", "resnet18"], in: work.path).outcome()
      #expect(mixed.status == 64 && mixed.output.contains("--arch is for a step without a recipe"), "\(mixed.output)")
    }

    @Test func featuresAreTimed() throws {
      for more in [[], ["--classes", "3"]] {
        let outcome = try Job(
          [
            "bench", "features", "--arch", "resnet18", "--width", "0.125", "--size", "8", "--images", "2", "--threads",
            "1", "--steps", "1", "--json",
          ] + more, in: work.path
        ).outcome()
        #expect(outcome.status == 0, "\(outcome.output)")
        let result = try json(outcome)
        #expect(result["views_per_second"] as? Double ?? 0 > 0 && result["sent_bytes"] as? Double == 0)
        let parts = try #require(result["parts"] as? [String: Double])
        #expect(parts["normalisation"] == nil && (parts["head"] != nil) == !more.isEmpty, "\(parts)")
      }
    }

    /// Three ranks report time for gradients, for other collectives, and for waiting.
    @Test func ranksSayWhatTheyWaitFor() throws {
      let outcome = try Job(["bench"] + words + ["--steps", "2"], ranks: 3, in: work.path).outcome()
      #expect(outcome.status == 0, "\(outcome.output)")
      let result = try json(outcome)
      let exposed = try #require(result["exposed"] as? [String: Double])
      #expect(exposed.keys.sorted() == ["gradients", "gradients_unhidden", "rest", "waiting"])
      #expect(exposed.values.allSatisfy { $0 > 0 }, "\(exposed)")
      let step = try #require(result["mean_seconds"] as? Double)
      #expect(exposed["gradients"]! + exposed["rest"]! + exposed["waiting"]! < step, "\(exposed), a step of \(step) s")
    }

    /// The first two processors of this process, if they share their cache.
    private static let neighbours: [Int] = {
      let first = Array(boundProcessors().prefix(2))
      let shared = first.map {
        try? String(contentsOfFile: "/sys/devices/system/cpu/cpu\($0)/cache/index3/shared_cpu_list", encoding: .utf8)
      }
      return first.count == 2 && shared[0] != nil && shared[0] == shared[1] ? first : []
    }()

    /// Processors that a process's first thread may use, in the system's notation.
    private func processors(of process: Int32) throws -> String {
      let status = try String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
      let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") })
      return String(line.split(separator: "\t")[1])
    }

    /// Two single-threaded ranks take turns if each is bound to its own processor, and stay if both may use both.
    @Test(.enabled(if: neighbours.count == 2, "no two processors share a cache"), arguments: [true, false])
    func boundRanksTakeTurns(areBound: Bool) throws {
      let own = Self.neighbours.map(String.init)
      let pipes = own.map { work.path + "/turn-\($0)" }
      func binding(_ rank: Int) -> [String] {
        ["-n", "1", "taskset", "-c", areBound ? own[rank] : own.joined(separator: ",")]
      }
      func bench(_ rank: Int) -> [String] { ["bench"] + words + ["--steps", "1", "--turns", pipes[rank]] }
      for pipe in pipes { #expect(mkfifo(pipe, 0o600) == 0) }
      let others = pipes.map { open($0, O_RDWR) }
      defer { for other in others { close(other) } }
      let job = try Job(
        bench(1), wrapper: ["mpirun"] + binding(0) + [Job.apus] + bench(0) + [":"] + binding(1), in: work.path)
      // Wait for the first step: before it MPI itself visits every processor, to find the topology.
      for other in others { #expect(write(other, ".", 1) == 1) }
      #expect(job.wait { job.output.contains("views_per_second") }, "\(job.output)")
      let ranks = job.ranks
      var seen = [Set<String>](repeating: [], count: ranks.count)
      for _ in 0..<1000 where !areBound || seen.contains(where: { $0.count < 2 }) {
        for (rank, process) in ranks.enumerated() { seen[rank].insert(try processors(of: process)) }
        usleep(1000)
      }
      #expect(ranks.count == 2 && seen.allSatisfy { areBound ? $0 == Set(own) : $0.count == 1 }, "\(seen)")
      for other in others { #expect(write(other, "..", 2) == 2) }
      let outcome = job.outcome()
      #expect(outcome.status == 0, "\(outcome.output)")
      #expect(try json(outcome)["ranks"] as? Int == 2)
    }

    /// The warm-up step, two timed steps and the end each wait for a byte, and each step prints its speed.
    @Test func aStepWaitsForItsTurn() throws {
      let pipe = work.path + "/turn"
      #expect(mkfifo(pipe, 0o600) == 0)
      let other = open(pipe, O_RDWR)
      defer { close(other) }
      let job = try Job(["bench"] + words + ["--steps", "2", "--turns", pipe], in: work.path)
      func lines() -> Int { job.output.split(separator: "\n").count }
      for turn in 0..<4 {
        usleep(100_000)
        #expect(job.isRunning && lines() == turn, "before turn \(turn): \(job.output)")
        #expect(write(other, ".", 1) == 1)
        #expect(job.wait { lines() == turn + 1 }, "after turn \(turn): \(job.output)")
      }
      let outcome = job.outcome()
      #expect(outcome.status == 0, "\(outcome.output)")
      let steps = try outcome.output.split(separator: "\n").dropLast().map {
        try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Double])
      }
      #expect(steps.allSatisfy { abs($0["views_per_second"]! * $0["seconds"]! / 4 - 1) < 1e-9 }, "\(outcome.output)")
    }

    @Test func turnsThatEndAreTold() throws {
      let file = work.path + "/one"
      try Data(".".utf8).write(to: URL(fileURLWithPath: file))
      let outcome = try Job(["bench"] + words + ["--steps", "2", "--turns", file], in: work.path).outcome()
      #expect(
        outcome.status == 1 && outcome.output.contains("--turns: \(file) was closed before the last step"),
        "\(outcome.output)")
      let none = try Job(["bench"] + words + ["--turns", work.path + "/none"], in: work.path).outcome()
      #expect(
        none.status == 1 && none.output.contains("/none cannot be opened for reading; make it with mkfifo"),
        "\(none.output)")
    }

    /// Whether activations or the network itself are too large: nothing of either is touched before the refusal.
    @Test(arguments: [["--images", "200000", "--size", "224"], ["--arch", "resnet152", "--width", "16"]])
    func whatDoesNotFitIsRefused(_ words: [String]) throws {
      let outcome = try Job(["bench"] + words + ["--threads", "1"], in: work.path).outcome(within: 60)
      #expect(outcome.status == 1 && outcome.seconds < Workplace.soon, "\(outcome.output)")
      #expect(
        outcome.output.contains(" MiB") && outcome.output.contains("take a smaller encoder, fewer images"),
        "\(outcome.output)")
    }

    @Test func whatCannotBeTimedIsRefused() throws {
      let recipe = Workplace.recipe("simclr")
      let none = try work("bench", "views", recipe, "--data", work.path + "/none")
      #expect(none.status == 1 && none.output.contains("/none: it is not a folder that can be read"), "\(none.output)")
      let seconds = try work("bench", "views", recipe, "--data", work.data(), "--seconds", "nan")
      #expect(
        seconds.status == 64 && seconds.output.contains("--seconds is nan; it must be above 0"), "\(seconds.output)")
    }
  }
}
