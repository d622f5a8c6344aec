import Engine
import Foundation
import Randomness
import Ranks
import TestSupport
import Testing

@Suite struct GradientReducerTests {
  private static func layout(_ counts: [Int]) -> ParameterLayout {
    var layout = ParameterLayout()
    for (i, count) in counts.enumerated() { _ = layout.add("\(i)", [count], .weight, .constant(0)) }
    return layout
  }

  /// Every float is summed once. Buckets are sent from the tail as soon as they are complete. Their borders depend on
  /// the layout alone, not on the order of backward's reports or on overlapping.
  @Test(arguments: 0..<200) func bucketsAreFixed(seed: Int) {
    var draws = Draws(test: "reducer", seed: UInt64(seed))
    let layout = Self.layout((0..<1 + draws.integer(below: 12)).map { _ in 1 + draws.integer(below: 60) })
    let recorder = SumRecorder()
    let gradients = ParameterSlab(layout)
    let bucket = 1 + draws.integer(below: layout.count + 50)
    let reducer = GradientReducer(
      Context(communicator: recorder, arena: Arena(reserving: 1 << 20)), gradients, bucket: bucket)
    var expected: [Range<Int>] = []
    for end in stride(from: layout.count, to: 0, by: -bucket) { expected.append(max(0, end - bucket)..<end) }
    for overlaps in [true, false, true] {  // a second step starts over
      reducer.overlaps = overlaps
      recorder.sums = []
      func begun() -> [Range<Int>] {
        recorder.sums.map { $0.baseAddress! - gradients.data..<$0.baseAddress! - gradients.data + $0.count }
      }
      for i in gradients.buffer.indices { gradients.data[i] = Float(i) }
      for entry in layout.entries.reversed() where draws.chance(0.6) {
        reducer.ready(from: entry.slice.offset)
        #expect(
          begun() == expected.filter { overlaps && $0.lowerBound >= entry.slice.offset },
          "ready from \(entry.slice.offset)")
      }
      reducer.finish()
      #expect(begun() == expected, "bucket \(bucket) of \(layout.count)")
      #expect(recorder.under.isEmpty && gradients.buffer.indices.allSatisfy { gradients.data[$0] == Float(2 * $0) })
    }
  }

  /// Two networks share the channel; sums begin in the order of the calls.
  @Test func networksTakeTurns() {
    let recorder = SumRecorder()
    let slabs = [ParameterSlab(Self.layout([32, 32])), ParameterSlab(Self.layout([32, 32]))]
    let context = Context(communicator: recorder, arena: Arena(reserving: 1 << 20))
    let reducers = slabs.map { GradientReducer(context, $0, bucket: 32) }
    for reducer in reducers { reducer.ready(from: 32) }
    for reducer in reducers.reversed() { reducer.ready(from: 0) }
    for reducer in reducers { reducer.finish() }
    let expected = [slabs[0].data + 32, slabs[1].data + 32, slabs[1].data, slabs[0].data]
    #expect(recorder.sums.map { $0.baseAddress! } == expected && recorder.sums.allSatisfy { $0.count == 32 })
  }

  /// Blocks of arithmetic advance pending sums, on the calling thread only.
  @Test(arguments: [1, 3]) func arithmeticMovesSums(threads: Int) {
    final class Mover: Communicator, @unchecked Sendable {
      let rank = 0, size = 2, caller = Thread.current
      var left = 0, moves = 0
      func beginSum(_: UnsafeMutableBufferPointer<Float>, _: CollectivePurpose) { left = 5 }
      var isSumming: Bool { left > 0 }
      func advanceSums() {
        precondition(Thread.current === caller, "MPI is the calling thread's")
        left = max(0, left - 1)
        moves = moves + 1
      }
      func allReduce(_: UnsafeMutableBufferPointer<Float>, _: Reduction, on _: Channel, _: CollectivePurpose) {}
      func allReduce(_: UnsafeMutableBufferPointer<Double>, _: Reduction, on _: Channel, _: CollectivePurpose) {}
      func allReduce(_: UnsafeMutableBufferPointer<Int64>, _: Reduction, on _: Channel, _: CollectivePurpose) {}
      func allGather(
        _: UnsafePointer<Float>, rows _: [Int], width _: Int, into _: UnsafeMutablePointer<Float>, _: CollectivePurpose
      ) {}
      func broadcast(_: UnsafeMutableRawBufferPointer, from _: Int, _: CollectivePurpose) {}
      func barrier() {}
      func abort(_: String, code _: Int32) -> Never { preconditionFailure() }
    }
    let mover = Mover()
    let gradients = ParameterSlab(Self.layout([40]))
    let context = Context(threads: threads, communicator: mover, arena: Arena(reserving: 1 << 20))
    context.run(100) { _, _ in }
    #expect(mover.moves == 0)
    GradientReducer(context, gradients, bucket: 40).ready(from: 0)
    for _ in 0..<20 { context.run(100) { _, _ in usleep(10) } }
    #expect(mover.moves > 0 && !mover.isSumming)
    let moves = mover.moves
    context.run(100) { _, _ in }
    #expect(mover.moves == moves)
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
      let reducer = GradientReducer(
        Context(communicator: communicator, arena: Arena(reserving: 1 << 20)), gradients, bucket: 60)
      for entry in layout.entries.reversed() { reducer.ready(from: entry.slice.offset) }
      reducer.finish()
      return Array(gradients.buffer)
    }
    let expected = (0..<layout.count).map { Float(ranks * (ranks + 1) / 2 * $0) }
    #expect(results.allSatisfy { $0 == expected })
  }
}
