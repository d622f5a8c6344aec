import Foundation
import Testing

extension CommandTests {
  /// What benches say of the work that they time; how fast it is belongs to Scripts/bench-peer.
  @Suite final class BenchTests {
    let work: Workplace
    init() throws { work = try Workplace() }

    /// The last line as JSON.
    private func json(_ outcome: Job.Outcome) throws -> [String: Any] {
      let line = try #require(outcome.output.split(separator: "\n").last, "\(outcome.output)")
      return try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any], "\(outcome.output)")
    }

    @Test func viewsAreThoseOfTheRecipe() throws {
      let data = try work.data()
      let outcome = try work(
        "bench", "views", Workplace.recipe("simclr"), "--data", data, "--seconds", "0.05", "--set", "views.0.count=3", "--json")
      #expect(outcome.status == 0, "\(outcome.output)")
      let result = try json(outcome)
      #expect(result["views_per_image"] as? Int == 3 && result["images"] as? Int ?? 0 >= 16)
      #expect(result["bytes_per_image"] as? Double == 784.0)
      // The recipe ends with `normalise: dataset`.
      let mean = try #require(result["mean"] as? Double), deviation = try #require(result["deviation"] as? Double)
      #expect(abs(mean) < 0.3 && abs(deviation - 1) < 0.2, "mean \(mean), deviation \(deviation)")
      let view = try #require((result["views"] as? [[String: Any]])?.first)
      #expect(view["size"] as? Int == 16 && (view["operations"] as? [[String: Any]])?.count == 3)
    }

    @Test func withoutANameAStepIsTimed() throws {
      let words = ["--arch", "resnet18", "--width", "0.125", "--size", "8", "--images", "2", "--steps", "1", "--threads", "1", "--json"]
      for name in [["bench"], ["bench", "step"]] {
        let outcome = try Job(name + words, in: work.path).outcome()
        #expect(outcome.status == 0, "\(outcome.output)")
        #expect(try json(outcome)["views_per_second"] as? Double ?? 0 > 0)
      }
    }

    @Test func whatCannotBeTimedIsRefused() throws {
      let recipe = Workplace.recipe("simclr")
      let none = try work("bench", "views", recipe, "--data", work.path + "/none")
      #expect(none.status == 1 && none.output.contains("/none: it is not a folder that can be read"), "\(none.output)")
      let seconds = try work("bench", "views", recipe, "--data", work.data(), "--seconds", "nan")
      #expect(seconds.status == 64 && seconds.output.contains("--seconds is nan; it must be above 0"), "\(seconds.output)")
    }
  }
}
