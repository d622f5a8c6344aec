import Engine
import Foundation
import Randomness
import Testing

@Suite struct GradientReducerTests {
  private static func layout(_ counts: [Int]) -> ParameterLayout {
    var layout = ParameterLayout()
    for (i, count) in counts.enumerated() { _ = layout.add("\(i)", [count], .weight, .constant(0)) }
    return layout
  }

  /// Records which ranges of a slab are reduced.
  private final class Recorder: Communicator {
    let rank = 0, size = 2
    var ranges: [(start: UnsafeMutablePointer<Float>, count: Int)] = []
    func allReduce(_ data: UnsafeMutableBufferPointer<Float>, _ reduction: Reduction, on channel: Channel, _: StaticString) {
      precondition(reduction == .sum && channel == .gradients)
      ranges.append((data.baseAddress!, data.count))
    }
    func allReduce(_: UnsafeMutableBufferPointer<Double>, _: Reduction, on _: Channel, _: StaticString) {}
    func allReduce(_: UnsafeMutableBufferPointer<Int64>, _: Reduction, on _: Channel, _: StaticString) {}
    func allGather(_: UnsafePointer<Float>, counts _: [Int], into _: UnsafeMutablePointer<Float>, _: StaticString) {}
    func broadcast(_: UnsafeMutableRawBufferPointer, from _: Int, _: StaticString) {}
    func barrier() {}
    func abort(_: String, code _: Int32) -> Never { preconditionFailure() }
  }

  @Test(arguments: 0..<200) func everyFloatIsReducedOnce(seed: Int) {
    var draws = Draws(test: "reducer", seed: UInt64(seed))
    let layout = Self.layout((0..<1 + draws.integer(below: 12)).map { _ in 1 + draws.integer(below: 60) })
    let recorder = Recorder(), gradients = ParameterSlab(layout), bucket = 1 + draws.integer(below: layout.count + 50)
    let context = Context(communicator: recorder, arena: Arena(reserving: 1 << 20))
    let reducer = GradientReducer(context, gradients, bucket: bucket)
    for _ in 0..<2 {  // a second step starts over
      recorder.ranges = []
      var times = [Int](repeating: 0, count: layout.count)
      for entry in layout.entries.reversed() where draws.chance(0.6) {
        let done = recorder.ranges.count
        reducer.ready(from: entry.slice.offset)
        for range in recorder.ranges[done...] { #expect(range.start - gradients.data >= entry.slice.offset, "not ready yet") }
      }
      for range in recorder.ranges { #expect(range.count >= bucket, "not worth a collective") }
      reducer.finish()
      for range in recorder.ranges {
        for i in 0..<range.count { times[range.start - gradients.data + i] += 1 }
      }
      #expect(times.allSatisfy { $0 == 1 }, "bucket \(bucket) of \(layout.count)")
    }
  }

  @Test func outOfOrderStops() async {
    silenceBacktraces()
    await #expect(processExitsWith: .failure) {
      let reducer = GradientReducer(Context(), ParameterSlab(GradientReducerTests.layout([50, 50])), bucket: 1)
      reducer.ready(from: 0)
      reducer.ready(from: 64)
    }
  }

  /// The sums are those of all ranks.
  @Test(arguments: [1, 2, 3, 4]) func ranksGetTheSum(ranks: Int) {
    let layout = Self.layout([30, 5, 70])
    let results = Ranks.run(ranks) { communicator in
      let gradients = ParameterSlab(layout)
      for i in gradients.buffer.indices { gradients.data[i] = Float((communicator.rank + 1) * i) }
      let reducer = GradientReducer(Context(communicator: communicator, arena: Arena(reserving: 1 << 20)), gradients, bucket: 60)
      for entry in layout.entries.reversed() { reducer.ready(from: entry.slice.offset) }
      reducer.finish()
      return Array(gradients.buffer)
    }
    let expected = (0..<layout.count).map { Float(ranks * (ranks + 1) / 2 * $0) }
    #expect(results.allSatisfy { $0 == expected })
  }
}
