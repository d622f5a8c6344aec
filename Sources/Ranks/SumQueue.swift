import CMPI

/// Sums over ranks that go on while this rank computes. All ranks put the same sums in the same order; when they do is
/// no matter.
///
/// The ranks of a node add in memory that they share, nodes by MPI's non-blocking all-reduces, which move only when MPI
/// is called. Each rank puts a copy of its part into the memory; one of them, sum after sum another, adds the parts in
/// the order of ranks and the result to those of the other nodes; and each takes a copy of what comes out. A rank puts
/// no part into a slot before it has taken the slot's last result, so one whose parts are all there is free for the
/// next.
package struct SumQueue {
  /// Floats of a sum, at most. 64,000 bytes are just below what Open MPI sends over TCP without asking the receiver
  /// first; larger ones took about twice as long over a 1 Gbit/s link between two hosts. And a megabyte under way, in
  /// 16 slots, fills such a link for the 8 ms that a block of arithmetic may keep the thread from the next poll;
  /// statistics, which share the link, wait behind no more. (With one rank on each: where a node has several, a sum
  /// keeps its slot for up to four polls.)
  package static let floats = NodeMemory.floats
  /// Time between polls.
  private static let interval = Duration.microseconds(100)

  private typealias Sum = (data: UnsafeMutableBufferPointer<Float>, purpose: CollectivePurpose)
  /// Nil where this rank has its node for itself.
  private let memory: NodeMemory?
  /// Ranks of every node that add, and nodes.
  private let adders: Int, nodes: Int
  /// From number `first` on.
  private var sums: [Sum] = []
  private var first = 0
  /// Of all sums since the start, the first so many that this rank has put its part of, and has taken the result of.
  private var put = 0, taken = 0
  /// The next sums for this rank to add, and to pass on to its node as the sum of all nodes.
  private var adding: Int, passing: Int
  private var polled = ContinuousClock.now

  /// - Parameters:
  ///   - memory: of this rank's node; nil where it has the node for itself.
  ///   - adders: ranks of each node that add sums: as many as the smallest node has, for they pass them on to each
  ///     other.
  ///   - nodes: in all.
  package init(_ memory: NodeMemory?, adders: Int, nodes: Int) {
    self.memory = memory
    self.adders = adders
    self.nodes = nodes
    let place = memory?.place ?? 0
    adding = place < adders ? place : .max
    passing = adding
  }

  /// Whether all sums are done.
  package var isEmpty: Bool { sums.isEmpty }
  /// Whether there is something to move, and the last time was long enough ago.
  package var isDue: Bool { !isEmpty && ContinuousClock.now - polled > Self.interval }

  /// Begins the sum over all ranks, in place; the floats are the queue's until it is empty.
  package mutating func begin(_ data: UnsafeMutableBufferPointer<Float>, _ purpose: CollectivePurpose) {
    for start in stride(from: 0, to: data.count, by: Self.floats) {
      sums.append((.init(rebasing: data[start..<min(data.count, start + Self.floats)]), purpose))
    }
    advance()
  }

  /// Does what can be done without waiting.
  package mutating func advance() {
    while advanceOnce() {}
    if taken == first + sums.count {
      first = taken
      sums.removeAll(keepingCapacity: true)
    }
    polled = .now
  }

  /// Waits until all sums are done. MPI moves on meanwhile: another rank may wait for what this one has sent.
  package mutating func finish() {
    while !isEmpty {
      advance()
      if !isEmpty { cmpi_advance() }
    }
  }

  /// - Returns: whether anything could be done.
  private mutating func advanceOnce() -> Bool {
    let before = (put, adding, passing, taken)
    while put < first + sums.count, put < taken + NodeMemory.slots {
      putPart(of: put)
      put += 1
    }
    while adding < put, memory?.hasAllParts(of: adding) ?? true {
      add(adding)
      adding += adders
    }
    while passing < adding, nodes == 1 || cmpi_is_done(Int32(passing % NodeMemory.slots)) != 0 {
      memory?.finishResult(of: passing)
      passing += adders
    }
    while taken < put, memory?.hasResult(of: taken) ?? (taken < passing) {
      if let memory {
        sums[taken - first].data.baseAddress!.update(
          from: memory.result(of: taken), count: sums[taken - first].data.count)
      }
      taken += 1
    }
    return before != (put, adding, passing, taken)
  }

  private func putPart(of sum: Int) {
    guard let memory else { return }
    let data = sums[sum - first].data
    if sum % adders != memory.place {
      memory.part(memory.place, of: sum).update(from: data.baseAddress!, count: data.count)
    }
    memory.finishPart(of: sum)
  }

  /// Adds the parts of this node's ranks, in their order, and begins the sum of all nodes.
  private func add(_ sum: Int) {
    let (data, purpose) = sums[sum - first]
    var result = data.baseAddress!
    if let memory {
      result = memory.result(of: sum)
      let part = { rank in rank == memory.place ? data.baseAddress! : memory.part(rank, of: sum) }
      result.set(part(0), plus: part(1), count: data.count)
      for rank in 2..<max(2, memory.ranks) { result.set(result, plus: part(rank), count: data.count) }
    }
    if nodes > 1 {
      cmpi_begin_sum_of_nodes(Int32(sum % NodeMemory.slots), result, Int64(data.count), purpose.text)
    }
  }
}

extension UnsafeMutablePointer<Float> {
  fileprivate func set(_ a: UnsafePointer<Float>, plus b: UnsafePointer<Float>, count: Int) {
    for i in 0..<count { self[i] = a[i] + b[i] }
  }
}
