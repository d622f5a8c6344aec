import Engine
import Foundation
import Ranks
import Shards
import Testing
import Training

/// kNN on held-out images while training.
@Suite struct MonitorTests {
  private func arrays(_ run: String, step: Int) throws -> [String] {
    try Checkpoint.arrays("\(run)/checkpoints/\(Checkpoint.name(step: step))").map { "\($0.name) \($0.crc32)" }
  }

  @Test func leavesTrainingAsItIs() throws {
    let tiny = try TinyRun()
    try tiny.pack("train", count: 40)
    try tiny.pack("test", count: 20, part: 1)
    let watched = try tiny.train("watched", on: "train", test: "test", ["monitor.every=1 steps"])
    let alone = try tiny.train("alone", on: "train")
    #expect(try arrays(watched, step: 6) == arrays(alone, step: 6))
    let lines = try MetricsFile.read(watched + "/metrics.jsonl")
    let found = lines.filter { $0["knn_top1"] != nil }
    #expect(found.map(\.step) == [1, 2, 3, 4, 5, 6] && found.allSatisfy { $0["stage"] == 0 })
    #expect(found.allSatisfy { (0...1).contains($0["knn_top1"]!) })
    #expect(try MetricsFile.read(alone + "/metrics.jsonl").allSatisfy { $0["knn_top1"] == nil })
  }

  /// 0 steps mean the end alone.
  @Test func everyZeroStepsIsTheEndAlone() throws {
    let tiny = try TinyRun()
    try tiny.pack("train", count: 40)
    try tiny.pack("test", count: 20, part: 1)
    let run = try tiny.train("run", on: "train", test: "test", ["monitor.every=0 steps"])
    #expect(try MetricsFile.read(run + "/metrics.jsonl").filter { $0["knn_top1"] != nil }.map(\.step) == [6])
  }

  /// The monitor's result does not depend on the held-out set's own mean and deviation.
  @Test func theHeldOutSetIsNormalisedByTheTrainingSet() throws {
    let tiny = try TinyRun()
    try tiny.pack("train", count: 40)
    try tiny.pack("like", count: 30, part: 1)
    try tiny.pack("own", count: 30, mean: 0.95, deviation: 0.01, part: 1)
    func figures(_ test: String) throws -> [Double] {
      let run = try tiny.train("run-\(test)", on: "train", test: test)
      return try MetricsFile.read(run + "/metrics.jsonl").compactMap { $0["knn_top1"] }
    }
    let like = try figures("like")
    #expect(try figures("own") == like && like.count == 2)
  }
}
