import CSystem
import Foundation
import Synchronization
import Testing
import Threading

@Suite struct ThreadTeamTests {
  @Test(arguments: [1, 2, 3, 8]) func everyBlockRunsOnce(count: Int) {
    let team = ThreadTeam(count: count)
    for blocks in [0, 1, 2, 7, 1000] {
      let runs = UnsafeMutablePointer<Int>.allocate(capacity: blocks + 1)
      runs.initialize(repeating: 0, count: blocks + 1)
      defer { runs.deallocate() }
      let strangers = Atomic<Int>(0)
      team.run(blocks) { block, thread in
        runs[block] += 1
        if !(0..<count).contains(thread) { strangers.wrappingAdd(1, ordering: .relaxed) }
      }
      #expect((0..<blocks).allSatisfy { runs[$0] == 1 })
      #expect(strangers.load(ordering: .relaxed) == 0)
    }
  }

  @Test func someProcessorIsBound() { #expect(!boundProcessors().isEmpty) }
}

@Suite struct ProcessorTurnsTests {
  /// A thread that may use some processors.
  private static func seat(_ thread: Int32, _ processors: [Int], home: Int32 = 0, space: UInt64 = 1) -> csystem_seat {
    var seat = csystem_seat()
    (seat.thread, seat.home, seat.space) = (thread, home, space)
    withUnsafeMutableBytes(of: &seat.processors) {
      let words = $0.bindMemory(to: UInt64.self)
      for processor in processors { words[processor / 64] |= 1 << (processor % 64) }
    }
    return seat
  }

  /// The first processor of a seat.
  private static func processor(_ seat: csystem_seat) -> Int {
    withUnsafeBytes(of: seat.processors) {
      let words = $0.bindMemory(to: UInt64.self)
      return words.indices.first { words[$0] != 0 }.map { 64 * $0 + words[$0].trailingZeroBitCount } ?? -1
    }
  }

  @Test(arguments: [
    ([], []), ([seat(1, [0])], []), ([seat(1, [0]), seat(2, [1])], [[1, 2]]),
    // Two homes with two cores each, of which one thread may use both processors; and one alone.
    (
      [
        seat(1, [0, 64]), seat(2, [1, 65]), seat(3, [2, 66], home: 2), seat(4, [3, 67], home: 2), seat(5, [4, 68], home: 4),
      ], [[1, 2], [3, 4]]
    ),
    // Several threads; unknown homes; nobody bound; unequal cores; two on one.
    ([seat(0, [0]), seat(0, [1])], []), ([seat(1, [0], home: -1), seat(2, [1], home: -1)], []),
    ([seat(1, [0, 1]), seat(2, [0, 1])], []), ([seat(1, [0]), seat(2, [1, 2])], []),
    ([seat(1, [0]), seat(2, [1]), seat(3, [1])], []),
    // Two of one number in containers of their own; nine of one home.
    ([seat(1, [0]), seat(1, [1], space: 2)], []),
    ((1...9).map { seat($0, [Int($0)]) }, [[1, 2, 3, 4], [5, 6, 7, 8, 9]]),
  ]) func ringsAreOfThreadsWithProcessorsOfTheirOwn(seats: [csystem_seat], rings: [[Int32]]) {
    #expect(ProcessorTurns.rings(seats).map { $0.map(\.thread) }.sorted { $0[0] < $1[0] } == rings)
  }

  /// Two threads that compute see both processors, and are at their own in the end.
  @Test(.enabled(if: boundProcessors().count > 1)) func threadsTakeTurns() throws {
    let processors = boundProcessors().prefix(2).map { Self.seat(0, [$0]) }
    let seats = Mutex([csystem_seat?](repeating: nil, count: 2)), ended = Atomic<Int>(0), leaving = Atomic<Bool>(false)
    let seen = Mutex([Set<Int>](repeating: [], count: 2))
    for place in 0..<2 {
      let processor = processors[place]
      Thread.detachNewThread {
        var own = csystem_own_seat()
        let moved = withUnsafePointer(to: processor) { csystem_move(own.thread, $0) }
        own = csystem_own_seat()
        (own.thread, own.home) = (moved == 0 ? own.thread : 0, 0)
        seats.withLock { [own] in $0[place] = own }
        while !leaving.load(ordering: .acquiring) { seen.withLock { _ = $0[place].insert(Self.processor(csystem_own_seat())) } }
        ended.wrappingAdd(1, ordering: .releasing)
      }
    }
    while seats.withLock({ $0.contains { $0 == nil } }) { usleep(1000) }
    defer {
      leaving.store(true, ordering: .releasing)
      while ended.load(ordering: .acquiring) < 2 { usleep(1000) }
    }
    let taken = seats.withLock { $0.map { $0! } }, own = boundProcessors().prefix(2).map { Set([$0]) }
    try #require(taken.allSatisfy { $0.thread != 0 })
    /// Where the threads are seen from now on, until both are where they should be, or for 5 s.
    func places(until wanted: [Set<Int>]) -> [Set<Int>] {
      seen.withLock { $0 = [[], []] }
      for _ in 0..<5000 where seen.withLock({ $0 != wanted }) { usleep(1000) }
      return seen.withLock { $0 }
    }
    #expect(places(until: own) == own)
    // Nobody takes turns at a processor that is not there.
    #expect(ProcessorTurns([taken[0], Self.seat(taken[1].thread, [1000], space: taken[1].space)]) == nil)
    #expect(withUnsafePointer(to: taken[1]) { csystem_move(taken[1].thread, $0) } == 0)
    #expect(places(until: own) == own)
    let turns = try #require(ProcessorTurns(taken)), both = own[0].union(own[1])
    #expect(places(until: [both, both]) == [both, both])
    turns.stop()
    #expect(places(until: own) == own)
    usleep(200_000)
    #expect(seen.withLock { $0 } == own)
  }
}
