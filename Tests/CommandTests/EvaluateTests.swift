import Foundation
import Testing

extension CommandTests {
  /// Evaluation of a trained encoder from start to end: the figures, their description, and where they are shown.
  @Suite final class EvaluateTests {
    let work: Workplace
    init() throws { work = try Workplace() }

    private func train(_ changes: [String] = []) throws -> String {
      let run = work.path + "/run"
      let outcome = try work.pretrain(ranks: nil, run: run, ["length=8 steps", "checkpoint.every=4 steps"] + changes)
        .outcome()
      #expect(outcome.status == 0, "\(outcome.output)")
      return run
    }

    private func records(_ run: String) throws -> [[String: Any]] {
      let data = try Data(contentsOf: URL(fileURLWithPath: run + "/evaluations.json"))
      let file = try JSONSerialization.jsonObject(with: data)
      return try #require((file as? [String: Any])?["evaluations"] as? [[String: Any]])
    }

    /// Figures by protocol and features.
    private func figures(_ record: [String: Any]) throws -> [String: Double] {
      let results = try #require(record["results"] as? [[String: Any]])
      return Dictionary(
        uniqueKeysWithValues: try results.map { result in
          let score = try #require((result["scores"] as? [[String: Any]])?.first)
          return ("\(result["title"]!), \(result["features"]!)", try #require(score["value"] as? Double))
        })
    }

    /// An IDX file of 60 dark pictures, and one of their labels.
    private func darkImages() throws -> (images: String, labels: String) {
      var images: [UInt8] = [0, 0, 8, 3, 0, 0, 0, 60, 0, 0, 0, 28, 0, 0, 0, 28]
      var labels: [UInt8] = [0, 0, 8, 1, 0, 0, 0, 60]
      for image in 0..<60 {
        labels.append(UInt8(image % 10))
        for pixel in 0..<28 * 28 { images.append(pixel % 28 / (image % 10 + 1) % 2 == 0 ? 0 : UInt8(20 + image % 7)) }
      }
      let paths = (work.path + "/dark-images-idx3-ubyte", work.path + "/dark-labels-idx1-ubyte")
      try Data(images).write(to: URL(fileURLWithPath: paths.0))
      try Data(labels).write(to: URL(fileURLWithPath: paths.1))
      return paths
    }

    @Test func anEvaluationSaysWhatItIsOf() throws {
      let run = try train()
      let data = try work.data()
      let outcome = try work("evaluate", run, "--data", data, "--limit", "100", ranks: 2)
      #expect(outcome.status == 0, "\(outcome.output)")
      for words in [
        "After step 8 (stage 0, pretrain): learned from 100 of 290 images of \(data)/train, judged on 110 images of",
        "\nlinear-v1 ", "\nknn-v1, k = 20", "raw pixels", "The report is \(run)/report.html",
      ] { #expect(outcome.output.contains(words), "`\(words)` is not in: \(outcome.output)") }
      let record = try #require(records(run).first)
      #expect((record["subject"] as? [String: Any])?["step"] as? Int == 8)
      #expect((record["train"] as? [String: Any])?["taken"] as? Int == 100)
      #expect((record["test"] as? [String: Any])?["path"] as? String == data + "/test")
      #expect(try figures(record).count == 9)
      // One rank finds the same, up to the point at which the probe's fit stops.
      let alone = try work("evaluate", run, "--data", data, "--limit", "100")
      #expect(alone.status == 0, "\(alone.output)")
      let both = try records(run)
      #expect(both.count == 1)
      for (name, value) in try figures(both[0]) {
        let tolerance = name.hasPrefix("linear") ? 0.02 : 1e-9
        #expect(abs(try figures(record)[name]! - value) < tolerance, "\(name)")
      }
      let page = try String(contentsOfFile: run + "/report.html", encoding: .utf8)
      #expect(page.contains("After step 8 (stage 0, pretrain)") && page.contains("Nearest neighbours"))
      let shown = try work("inspect", run)
      #expect(shown.status == 0 && shown.output.contains("kNN, k = 20 (knn-v1) on learned: top-1 "), "\(shown.output)")
    }

    /// A held-out set packed without `--like` is normalised with the training set's statistics.
    @Test func aSetsOwnStatisticsDoNotMatter() throws {
      let run = try train()
      let data = try work.data()
      let dark = try darkImages()
      for (name, options) in [("own", []), ("like", ["--like", data + "/train"])] {
        let packed = try Job(["pack", dark.images, work.path + "/" + name] + options, in: work.path).outcome()
        #expect(packed.status == 0, "\(packed.output)")
        let outcome = try work(
          "evaluate", run, "--data", data + "/train", "--test", work.path + "/" + name, "--only")
        #expect(outcome.status == 0, "\(outcome.output)")
      }
      let found = try records(run)
      #expect(found.count == 2)
      #expect(try figures(found[0]) == figures(found[1]))
    }

    /// Figures of an earlier step are shown apart and marked. A damaged newest checkpoint is reported.
    @Test func earlierStepsAndDamageAreTold() throws {
      let run = try train()
      let data = try work.data()
      #expect(try work("evaluate", run, "--data", data, "--only", "--step", "4").status == 0)
      let none = try work("evaluate", run, "--data", data, "--step", "5")
      #expect(none.status == 1 && none.output.contains("it has those of steps 4, 8"), "\(none.output)")
      #expect(try work("evaluate", run, "--data", data, "--only").status == 0)
      let page = try String(contentsOfFile: run + "/report.html", encoding: .utf8)
      #expect(page.contains("After step 4 (stage 0, pretrain) – an earlier step: the run is at step 8"))
      #expect(page.components(separatedBy: "<table class=\"results\">").count - 1 == 2)

      let state = URL(fileURLWithPath: run + "/checkpoints/step-00000008/state.h5")
      var bytes = try Data(contentsOf: state)
      bytes[bytes.count / 2] ^= 1
      try bytes.write(to: state)
      for words in [
        ["evaluate", run, "--data", data, "--only"], ["export", run, work.path + "/out.safetensors"],
        ["report", run, "--data", data],
      ] {
        let outcome = try Job(words, in: work.path).outcome()
        #expect(
          outcome.status == 0 && outcome.output.contains("Passed over: checkpoint \(run)/checkpoints/step-00000008"),
          "\(words): \(outcome.output)")
      }
    }

    /// The run's report can be rewritten, with pictures from its data.
    @Test func aReportIsWrittenAnew() throws {
      let run = try train()
      let data = try work.data()
      try FileManager.default.removeItem(atPath: run + "/report.html")
      try FileManager.default.removeItem(atPath: run + "/exhibits.json")
      let bare = try work("report", run)
      #expect(bare.status == 0 && bare.output == "The report is \(run)/report.html\n", "\(bare.output)")
      let page = try String(contentsOfFile: run + "/report.html", encoding: .utf8)
      #expect(!page.contains("What the encoder sees") && page.contains("<section id=\"curves\">"))
      let full = try work("report", run, "--data", data)
      #expect(full.status == 0, "\(full.output)")
      let whole = try String(contentsOfFile: run + "/report.html", encoding: .utf8)
      #expect(whole.contains("What the encoder sees") && whole.contains("First-layer kernels"))
    }
  }
}
