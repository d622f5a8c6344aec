import CSystem
import Foundation
import Synchronization

/// Ranks of one thread that are bound to processors of their own take turns at them.
///
/// Ranks wait for the slowest of them at every normalisation, and where other work shares the machine a core may be
/// slower than its neighbour for seconds on end. In turns each rank has the mean of them: of two ranks that train a
/// ResNet-18 at 32 px on such a machine, 64 images each, a step waits 2 % of its time instead of 5 %, and takes 0.97
/// of it. Where cores are equal there is nothing to win. A change, after which the second-level cache is another's,
/// costs about 0.1 ms: every 2 ms they cost 5 %.
///
/// Only processors that share their third-level cache and their memory are taken in turns: elsewhere a rank would be
/// far from what it works on.
package final class ProcessorTurns: @unchecked Sendable {
  /// Microseconds between changes: less than most layers take, which end in a normalisation, and much more than a
  /// change.
  private static let interval: UInt32 = 40_000

  /// Threads of a ring, at most: they move one after the other, and some core has two meanwhile.
  private static let most = 8

  /// The seats as they were taken, and between whom they go round.
  private var rings: [[csystem_seat]]
  private let stopping = Atomic<Bool>(false)
  private var thread = pthread_t()

  /// Starts the turns; those of all ranks of a node are one process's work, so that two are not on one processor while
  /// another is idle. Nil where there is nobody to take turns.
  /// - Parameter seats: of all ranks' threads on this node, which wait for this call or compute; a thread 0 takes no
  ///   turns.
  package init?(_ seats: [csystem_seat]) {
    rings = Self.rings(seats).filter(Self.canTurn)
    if rings.isEmpty { return nil }
    let status = pthread_create(
      &thread, nil,
      { argument in
        Unmanaged<ProcessorTurns>.fromOpaque(argument!).takeRetainedValue().run()
        return nil
      }, Unmanaged.passRetained(self).toOpaque())
    precondition(status == 0, "could not start the thread of turns: \(String(cString: strerror(status)))")
  }

  /// Ends the turns, with everybody in their own seat. To be called before any of the threads ends.
  package func stop() {
    stopping.store(true, ordering: .relaxed)
    pthread_join(thread, nil)
    for ring in rings { _ = Self.move(ring, by: 0) }
  }

  /// The seats of one home, where all are of as many processors and no two overlap, in rings that are as even as can
  /// be.
  package static func rings(_ seats: [csystem_seat]) -> [[csystem_seat]] {
    let homes = Dictionary(
      grouping: seats.filter { $0.thread != 0 && $0.home >= 0 }, by: { [UInt64($0.home), $0.space] }
    ).values
    return homes.filter { home in
      let sets = home.map(\.words)
      let counts = sets.map { $0.reduce(0) { $0 + $1.nonzeroBitCount } }
      let together = sets[0].indices.reduce(0) { sum, i in sum + sets.reduce(0) { $0 | $1[i] }.nonzeroBitCount }
      return home.count > 1 && counts.allSatisfy { $0 == counts[0] } && together == counts.reduce(0, +)
    }.flatMap { home in
      let rings = (home.count + most - 1) / most
      return (0..<rings).map { Array(home[home.count * $0 / rings..<home.count * ($0 + 1) / rings]) }
    }
  }

  /// Whether the system lets every thread have its next's processors; a scheduler's control group may not.
  private static func canTurn(_ ring: [csystem_seat]) -> Bool {
    let can = move(ring, by: 1)
    _ = move(ring, by: 0)
    return can
  }

  private func run() {
    // Not behind whatever keeps one of the cores busy.
    var own = csystem_own_seat()
    withUnsafeMutableBytes(of: &own.processors) {
      let words = $0.bindMemory(to: UInt64.self)
      for seat in rings.joined() { for (i, word) in seat.words.enumerated() { words[i] |= word } }
    }
    _ = csystem_move(own.thread, &own)
    var turn = 0
    while true {
      usleep(Self.interval)
      if stopping.load(ordering: .relaxed) { return }
      turn += 1
      // Where one cannot be moved, its process has ended or may use less than before.
      rings.removeAll { ring in
        if Self.move(ring, by: turn) { return false }
        _ = Self.move(ring, by: 0)
        return true
      }
    }
  }

  /// Moves every thread of a ring to the seat of the one that follows it by so many places.
  /// - Returns: whether all could be moved.
  private static func move(_ ring: [csystem_seat], by places: Int) -> Bool {
    ring.indices.reduce(true) {
      var seat = ring[($1 + places) % ring.count]
      return csystem_move(ring[$1].thread, &seat) == 0 && $0
    }
  }
}

extension csystem_seat {
  fileprivate var words: [UInt64] { withUnsafeBytes(of: processors) { Array($0.bindMemory(to: UInt64.self)) } }
}
