import CMPI
import Synchronization

/// Memory that the ranks of a node share for sums that follow one another: `slots` at a time, each with a part of every
/// rank and a result.
package struct NodeMemory {
  /// Sums that have a slot at the same time.
  package static let slots = Int(CMPI_REQUESTS)
  /// Floats of a part, at most.
  package static let floats = 16000

  /// Ranks of the node, and this one's place among them.
  let ranks: Int, place: Int
  private let counters: UnsafeMutablePointer<Atomic<Int>>, data: UnsafeMutablePointer<Float>

  /// A counter has two cache lines of its own: the processor fetches lines by twos.
  private static let stride = 128 / MemoryLayout<Atomic<Int>>.stride

  /// Bytes for so many ranks, and how many of them must be zero at first: the counters.
  package static func bytes(ranks: Int) -> Int {
    zeros(ranks: ranks) + (ranks + 1) * slots * floats * MemoryLayout<Float>.stride
  }
  package static func zeros(ranks: Int) -> Int { (ranks + slots) * 128 }

  /// - Parameter memory: `bytes(ranks:)` on a cache line, the same for all ranks. Who puts a part there first has it
  ///   near.
  package init(_ memory: UnsafeMutableRawPointer, ranks: Int, place: Int) {
    self.ranks = ranks
    self.place = place
    counters = memory.bindMemory(to: Atomic<Int>.self, capacity: (ranks + Self.slots) * Self.stride)
    data = (memory + Self.zeros(ranks: ranks)).bindMemory(
      to: Float.self, capacity: (ranks + 1) * Self.slots * Self.floats)
  }

  /// The rank's part of a sum.
  func part(_ rank: Int, of sum: Int) -> UnsafeMutablePointer<Float> {
    data + ((rank + 1) * Self.slots + sum % Self.slots) * Self.floats
  }
  func result(of sum: Int) -> UnsafeMutablePointer<Float> { data + sum % Self.slots * Self.floats }

  /// This rank's part of the sum is there, and those of all before it.
  func finishPart(of sum: Int) { counters[place * Self.stride].store(sum + 1, ordering: .releasing) }
  func hasAllParts(of sum: Int) -> Bool {
    (0..<ranks).allSatisfy { counters[$0 * Self.stride].load(ordering: .acquiring) > sum }
  }

  func finishResult(of sum: Int) {
    counters[(ranks + sum % Self.slots) * Self.stride].store(sum + 1, ordering: .releasing)
  }
  func hasResult(of sum: Int) -> Bool {
    counters[(ranks + sum % Self.slots) * Self.stride].load(ordering: .acquiring) > sum
  }
}
