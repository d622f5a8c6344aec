import CMPI
import Synchronization

/// Memory that the ranks of a node share for consecutive sums. Each of its `slots` holds one part for every rank and
/// one result.
package struct NodeMemory {
  /// How many sums can be under way at the same time.
  package static let slots = Int(CMPI_REQUESTS)
  /// Capacity of a part, in floats.
  package static let floats = 16000

  /// The number of ranks on the node, and this rank's index among them.
  let ranks: Int, place: Int
  private let counters: UnsafeMutablePointer<Atomic<Int>>, data: UnsafeMutablePointer<Float>

  /// Each counter has two cache lines of its own, because the processor prefetches lines in pairs.
  private static let stride = 128 / MemoryLayout<Atomic<Int>>.stride

  /// Bytes for a node of `ranks` ranks.
  package static func bytes(ranks: Int) -> Int {
    zeros(ranks: ranks) + (ranks + 1) * slots * floats * MemoryLayout<Float>.stride
  }
  /// Bytes of the counters, which come first and must be zero initially.
  package static func zeros(ranks: Int) -> Int { (ranks + slots) * 128 }

  /// - Parameter memory: `bytes(ranks:)` bytes on a cache line, the same for all ranks. First-touch: pages land on the
  ///   NUMA node of the rank that writes them first.
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

  /// Publishes this rank's parts of all sums up to this one.
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
