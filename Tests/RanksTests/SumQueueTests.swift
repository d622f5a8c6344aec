import Foundation
import Randomness
import Ranks
import TestSupport
import Testing

/// Ranks of one node as threads that share memory. Several nodes are tested by Scripts/check-ranks.
@Suite struct SumQueueTests {
  /// Memory of this process in the place of a node's shared memory.
  private final class Shared: @unchecked Sendable {
    let memory: UnsafeMutableRawPointer
    init(_ ranks: Int) {
      memory = .allocate(byteCount: NodeMemory.bytes(ranks: ranks), alignment: 64)
      memset(memory, 0, NodeMemory.bytes(ranks: ranks))
    }
    deinit { memory.deallocate() }
  }

  private static func value(_ rank: Int, _ round: Int, _ i: Int) -> Float {
    sinf(Float(rank + 1) * Float(i % 977) + Float(round))
  }

  /// Every rank gets the sum in rank order, to the bit: over several rounds of many more sums than slots, with any rank
  /// late, for any length of buffer, and whether or not a rank polls before the end.
  @Test(arguments: [2, 3, 4, 7]) func ranksOfANodeGetTheSum(ranks: Int) {
    let shared = Shared(ranks)
    let rounds = 3
    let counts = [1, 31, SumQueue.floats - 1, 20 * SumQueue.floats + 5, SumQueue.floats, 3 * SumQueue.floats, 7]
    let same = Ranks.run(ranks) { communicator in
      let rank = communicator.rank
      var draws = Draws(seed: UInt64(rank), .check, named: "sum queue")
      var same = true
      var queue = SumQueue(NodeMemory(shared.memory, ranks: ranks, place: rank), adders: ranks, nodes: 1)
      for round in 0..<rounds {
        let buffers = counts.map { UnsafeMutableBufferPointer<Float>.allocate(capacity: $0) }
        defer { for buffer in buffers { buffer.deallocate() } }
        for buffer in buffers {
          for i in buffer.indices { buffer[i] = Self.value(rank, round, i) }
          if draws.chance(0.3) { usleep(UInt32(draws.integer(below: 3000))) }
          queue.begin(buffer, "a test")
          if draws.chance(0.5) { queue.advance() }
        }
        let end = ContinuousClock.now + .seconds(60)
        while !queue.isEmpty && ContinuousClock.now < end {
          queue.advance()
          sched_yield()
        }
        same = same && queue.isEmpty
        for buffer in buffers {
          for i in buffer.indices {
            let expected = (1..<ranks).reduce(Self.value(0, round, i)) { $0 + Self.value($1, round, i) }
            same = same && buffer[i] == expected
          }
        }
      }
      return same
    }
    #expect(same == Array(repeating: true, count: ranks))
  }

  /// Polling never waits for a late rank. If another node has fewer ranks, not all ranks of this one add.
  @Test func nothingWaitsForALateRank() {
    let shared = Shared(3)
    let count = 40 * SumQueue.floats
    let buffers = (0..<3).map { rank in
      let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: count)
      buffer.initialize(repeating: Float(rank + 1))
      return buffer
    }
    defer { for buffer in buffers { buffer.deallocate() } }
    // All ranks run in one thread, so a rank that waited would wait forever.
    var queues = (0..<3).map { SumQueue(NodeMemory(shared.memory, ranks: 3, place: $0), adders: 2, nodes: 1) }
    for rank in 0..<2 { queues[rank].begin(buffers[rank], "a test") }
    for _ in 0..<100 { for rank in 0..<2 { queues[rank].advance() } }
    #expect(queues[0].isEmpty == false && buffers[0].allSatisfy { $0 == 1 })
    queues[2].begin(buffers[2], "a test")
    for _ in 0..<100 { for rank in 0..<3 { queues[rank].advance() } }
    #expect(queues.allSatisfy(\.isEmpty) && buffers.allSatisfy { $0.allSatisfy { $0 == 6 } })
  }
}
