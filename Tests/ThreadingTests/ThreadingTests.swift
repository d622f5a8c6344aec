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

  /// Closures are passed to threads by their memory layout, which the language does not guarantee. Captures of any kind
  /// and size must arrive as through `withoutActuallyEscaping`.
  @Test(arguments: [1, 4]) func closuresArriveAsTheyAre(count: Int) {
    func both(_ body: (Int, Int) -> Void, _ check: (String) -> Void) {
      let team = ThreadTeam(count: count)
      team.run(64, body)
      check("lent")
      withoutActuallyEscaping(body) { escaping in
        let again: (Int, Int) -> Void = { escaping($0, $1) }
        for block in 0..<64 { again(block, 0) }
      }
      check("escaping")
    }
    let calls = Atomic<Int>(0)
    both({ block, _ in calls.wrappingAdd(block, ordering: .relaxed) }) { way in
      #expect(calls.exchange(0, ordering: .relaxed) == 63 * 32, "\(way)")
    }
    let (a, b, c, d, e) = (1, 2.5, "three", [4, 5], UInt8(6))
    both({ block, _ in
      let sum = a + Int(b * 2) + c.utf8.count + d[1] + Int(e)
      calls.wrappingAdd(sum * block, ordering: .relaxed)
    }) { way in
      #expect(calls.exchange(0, ordering: .relaxed) == 22 * 63 * 32, "\(way)")
    }
    both({ _, thread in precondition(thread < count) }) { _ in }
  }

  /// Eight threads can be started on any machine, and the test leaves none behind.
  @Test func theSystemIsAskedForThreads() {
    #expect(ThreadTeam.failure(startingThreads: 8) == nil)
    let threads = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task"))?.count ?? 0
    for _ in 0..<20 { #expect(ThreadTeam.failure(startingThreads: 50) == nil) }
    let later = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task"))?.count ?? 0
    #expect(later < threads + 500)
  }

  @Test func someProcessorIsBound() { #expect(!boundProcessors().isEmpty) }
}

@Suite struct ProcessorTurnsTests {
  /// A seat of a thread that may use some processors.
  private static func seat(_ thread: Int32, _ processors: [Int], home: Int32 = 0, space: UInt64 = 1) -> csystem_seat {
    var seat = csystem_seat()
    seat.thread = thread
    seat.home = home
    seat.space = space
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
    // Two homes with two cores of two hardware threads each; and a home with a single core.
    (
      [
        seat(1, [0, 64]), seat(2, [1, 65]), seat(3, [2, 66], home: 2), seat(4, [3, 67], home: 2),
        seat(5, [4, 68], home: 4),
      ], [[1, 2], [3, 4]]
    ),
    // Several threads per rank; unknown homes; unbound; unequal sizes; two on one processor.
    ([seat(0, [0]), seat(0, [1])], []), ([seat(1, [0], home: -1), seat(2, [1], home: -1)], []),
    ([seat(1, [0, 1]), seat(2, [0, 1])], []), ([seat(1, [0]), seat(2, [1, 2])], []),
    ([seat(1, [0]), seat(2, [1]), seat(3, [1])], []),
    // Two threads with the same id in different containers; nine of one home.
    ([seat(1, [0]), seat(1, [1], space: 2)], []),
    ((1...9).map { seat($0, [Int($0)]) }, [[1, 2, 3, 4], [5, 6, 7, 8, 9]]),
  ]) func ringsAreOfThreadsWithProcessorsOfTheirOwn(seats: [csystem_seat], rings: [[Int32]]) {
    #expect(ProcessorTurns.rings(seats).map { $0.map(\.thread) }.sorted { $0[0] < $1[0] } == rings)
  }

  /// Two busy threads, each bound to its own processor, until they are told to leave.
  private final class SeatedPair: Sendable {
    /// The processor of each thread.
    let own = Array(boundProcessors().prefix(2))
    /// The seat of each thread, set when it is bound; its thread is 0 if binding failed.
    private let taken = Mutex<[csystem_seat?]>([nil, nil])
    /// Processors on which each thread has run, in order, since they were last cleared.
    private let visited = Mutex<[[Int]]>([[], []])
    private let staying = Mutex([true, true])
    private let present = Atomic<Int>(2)

    init() {
      for place in 0..<2 { Thread.detachNewThread { self.work(place) } }
      while taken.withLock({ $0.contains { $0 == nil } }) { usleep(1000) }
    }

    private func work(_ place: Int) {
      var own = csystem_own_seat()
      let moved = withUnsafePointer(to: ProcessorTurnsTests.seat(0, [self.own[place]])) { csystem_move(own.thread, $0) }
      own = csystem_own_seat()
      own.thread = moved == 0 ? own.thread : 0
      own.home = 0
      taken.withLock { [own] in $0[place] = own }
      while staying.withLock({ $0[place] }) {
        visited.withLock {
          let here = ProcessorTurnsTests.processor(csystem_own_seat())
          if $0[place].last != here { $0[place].append(here) }
        }
      }
      present.wrappingSubtract(1, ordering: .releasing)
    }

    var seats: [csystem_seat] { taken.withLock { $0.map { $0! } } }

    /// Clears the visited processors and waits at most 10 s until the new ones satisfy a condition.
    /// - Returns: whether they do.
    func go(_ isAsWanted: ([[Int]]) -> Bool) -> Bool {
      visited.withLock { $0 = [[], []] }
      for _ in 0..<10_000 {
        if visited.withLock({ isAsWanted($0) }) { return true }
        usleep(1000)
      }
      return false
    }

    /// Processors that the threads visit in so many turns of 40 ms; waits longer if other work delays a thread.
    func places(turns: UInt32 = 5) -> [[Int]] {
      let begun = ContinuousClock.now
      let staying = staying.withLock { $0 }
      _ = go { visited in
        ContinuousClock.now - begun > .milliseconds(40 * turns)
          && zip(visited, staying).allSatisfy { !$0.isEmpty || !$1 }
      }
      return visited.withLock { $0 }
    }

    func leave(_ place: Int) { staying.withLock { $0[place] = false } }

    func leave() {
      for place in 0..<2 { leave(place) }
      while present.load(ordering: .acquiring) > 0 { usleep(1000) }
    }
  }

  /// Two busy threads visit both processors, and are back on their own at the end, even if stopped while away.
  @Test(.enabled(if: boundProcessors().count > 1, "there is one processor")) func threadsTakeTurns() throws {
    let pair = SeatedPair()
    let own = pair.own
    defer { pair.leave() }
    try #require(pair.seats.allSatisfy { $0.thread != 0 })
    #expect(pair.places() == own.map { [$0] })
    // No turns with a processor that does not exist.
    let absent = Self.seat(pair.seats[1].thread, [1000], space: pair.seats[1].space)
    #expect(ProcessorTurns([pair.seats[0], absent]) == nil)
    #expect(withUnsafePointer(to: pair.seats[1]) { csystem_move($0.pointee.thread, $0) } == 0)
    #expect(pair.places() == own.map { [$0] })
    let turns = try #require(ProcessorTurns(pair.seats))
    let swapped = pair.go { $0.allSatisfy { $0.count > 2 } && $0.map(\.last) == [own[1], own[0]] }
    turns.stop()
    #expect(swapped)
    #expect(pair.places() == own.map { [$0] })
  }

  /// If one thread of a ring has ended, the other stays on its own processor.
  @Test(.enabled(if: boundProcessors().count > 1, "there is one processor"))
  func aRingWithoutOneOfItsThreadsIsGivenUp() throws {
    let pair = SeatedPair()
    let own = pair.own
    defer { pair.leave() }
    try #require(pair.seats.allSatisfy { $0.thread != 0 })
    let turns = try #require(ProcessorTurns(pair.seats))
    defer { turns.stop() }
    // The next turn would take it to the other's.
    #expect(pair.go { $0.allSatisfy { $0.count > 2 } && $0.map(\.last) == own })
    pair.leave(1)
    usleep(200_000)
    // So many turns, because a thread that is moved away and back at once is rarely observed away.
    #expect(pair.places(turns: 50)[0] == [own[0]])
  }
}
