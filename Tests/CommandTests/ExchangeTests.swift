import Foundation
import Testing

/// A safetensors file, read without the code that wrote it.
private struct Exported {
  let tensors: [String: Data]

  init(_ path: String) throws {
    let data = try Data(contentsOf: URL(fileURLWithPath: path))
    let length = data.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
    let header = try JSONSerialization.jsonObject(with: data.dropFirst(8).prefix(length)) as? [String: Any] ?? [:]
    var tensors: [String: Data] = [:]
    for (name, value) in header {
      guard let place = (value as? [String: Any])?["data_offsets"] as? [Int] else { continue }
      tensors[name] = Data(data[(8 + length + place[0])..<(8 + length + place[1])])
    }
    self.tensors = tensors
  }

  /// The parameters, without running statistics, which change even at a rate of 0.
  var parameters: [String: Data] { tensors.filter { !$0.key.contains("running_") && !$0.key.contains("num_batches") } }
}

extension ShortCommandTests {
  /// A run's weights are exported, and another run starts from the file.
  @Suite final class ExchangeTests {
    let work: Workplace
    init() throws { work = try Workplace() }

    private func train(_ run: String, _ changes: [String], _ options: [String] = []) throws -> Job.Outcome {
      try work.pretrain(ranks: 1, run: work.path + "/" + run, changes, options).outcome()
    }

    private func export(_ run: String) throws -> Exported {
      let outcome = try work("export", work.path + "/" + run, work.path + "/\(run).safetensors")
      #expect(outcome.status == 0 && outcome.output.contains("read back, same features"), "\(outcome.output)")
      return try Exported(work.path + "/\(run).safetensors")
    }

    @Test func anExportStartsAnotherRun() throws {
      #expect(try train("first", ["length=2 steps", "optimizer.rate=1", "schedule={name: constant}"]).status == 0)
      let first = try export("first")
      let file = work.path + "/first.safetensors"
      #expect(first.parameters.count == 60 && first.tensors["conv1.weight"]?.count == 8 * 9 * 4)
      let still = ["length=1 steps", "optimizer.rate=1.0e-30", "schedule={name: constant}"]
      let fresh = try train("fresh", still)
      let started = try train("started", still, ["--init", file])
      #expect(fresh.status == 0 && started.status == 0, "\(fresh.output) \(started.output)")
      let losses = try ["fresh", "started"].map { try #require(work.losses(work.path + "/" + $0).first).loss }
      #expect(abs(losses[0] - losses[1]) > 1e-3 * losses[0], "the same first loss with and without --init: \(losses)")
      let second = try export("started")
      #expect(second.parameters == first.parameters)
      #expect(try export("fresh").parameters != first.parameters)
    }

    @Test func weightsOfAnotherEncoderAreRefused() throws {
      #expect(try train("first", ["length=1 steps"]).status == 0)
      _ = try export("first")
      let wide = try train("wide", ["encoder.width=0.25"], ["--init", work.path + "/first.safetensors"])
      #expect(wide.status == 1 && wide.seconds < Workplace.soon)
      #expect(
        wide.output.contains("`conv1.weight` has shape [8, 1, 3, 3], the recipe's encoder has [16, 1, 3, 3]"),
        "\(wide.output)")
      let deep = try train("deep", ["encoder.name=resnet34"], ["--init", work.path + "/first.safetensors"])
      #expect(deep.status == 1 && deep.output.contains("have no `layer1.2.conv1.weight`"), "\(deep.output)")
    }

    /// An export is read back, which a pipe, a device or an open file does not allow.
    @Test(arguments: ["pipe", "/dev/stdout", "/dev/null"]) func anExportIntoNoFileIsRefused(_ out: String) throws {
      #expect(try train("first", ["length=1 steps"]).status == 0)
      let out = out.hasPrefix("/") ? out : work.path + "/" + out
      #expect(out.hasPrefix("/dev/") || mkfifo(out, 0o600) == 0)
      let outcome = try Job(["export", work.path + "/first", out], in: work.path).outcome(within: 20)
      #expect(outcome.status == 1, "\(outcome.output)")
      #expect(outcome.output.contains("cannot write \(out): ") && outcome.output.contains("give the name of a file"))
      #expect(!outcome.output.contains("conv1.weight"), "nothing was written: \(outcome.output.prefix(300))")
    }

    @Test func aRunWithoutCheckpointsIsSaid() throws {
      let run = work.path + "/empty"
      try FileManager.default.createDirectory(atPath: run + "/checkpoints", withIntermediateDirectories: true)
      for words in [["export", run, work.path + "/out"], ["evaluate", run, "--data", try work.data()]] {
        let outcome = try Job(words, in: work.path).outcome()
        #expect(
          outcome.status == 1 && outcome.output.contains("run \(run) has no whole checkpoint"), "\(outcome.output)")
        #expect(!FileManager.default.fileExists(atPath: work.path + "/out"))
      }
    }
  }
}
