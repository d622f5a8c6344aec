import CMPI

/// Sums over ranks that proceed while this rank computes. All ranks enqueue the same sums in the same order; timing
/// does not matter.
///
/// Ranks of one node add in shared memory. Nodes add by MPI's non-blocking all-reduce, which progresses only inside MPI
/// calls. A sum takes four stages:
/// 1. every rank copies its part into a slot of the shared memory;
/// 2. one rank, the sum's adder, adds the parts in rank order; ranks take turns as the adder;
/// 3. the adders of all nodes add their results with MPI;
/// 4. every rank copies the result back.
///
/// A rank fills a slot only after it has copied the slot's previous result. So when all parts of a sum are in their
/// slot, nobody needs its previous result any more.
package struct SumQueue {
  /// Largest sum, in floats; longer buffers are split. 64,000 bytes are just below Open MPI's eager limit over TCP:
  /// larger messages took about twice as long over a 1 Gbit/s link between two hosts. The 16 slots hold a megabyte
  /// together, which fills such a link for 8 ms, as long as a block of arithmetic may delay the next poll. Statistics
  /// share the link and wait behind no more than that. (Measured with one rank on each host. With several ranks on a
  /// node a sum keeps its slot for up to four polls.)
  package static let floats = NodeMemory.floats
  /// Time between polls.
  private static let interval = Duration.microseconds(100)

  private typealias Sum = (data: UnsafeMutableBufferPointer<Float>, purpose: CollectivePurpose)
  /// Nil where this rank is alone on its node.
  private let memory: NodeMemory?
  /// Adders on every node, and the number of nodes.
  private let adders: Int, nodes: Int
  /// Pending sums, numbered from `first` on. Sums are numbered from the start of the job.
  private var sums: [Sum] = []
  private var first = 0
  /// The next sum whose part this rank will copy into its slot, and the next whose result it will copy back.
  private var put = 0, taken = 0
  /// The next sum that this rank will add, and the next whose result over all nodes it will publish on its node.
  private var adding: Int, passing: Int
  private var polled = ContinuousClock.now

  /// - Parameters:
  ///   - memory: shared by this node's ranks; nil where this rank is alone on its node.
  ///   - adders: adders on each node. As many as the smallest node has ranks, because each exchanges with the ranks of
  ///     the same place on the other nodes.
  ///   - nodes: how many nodes the job has.
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
  /// Whether sums are pending and the last poll was at least `interval` ago.
  package var isDue: Bool { !isEmpty && ContinuousClock.now - polled > Self.interval }

  /// Begins the sum over all ranks, in place. The floats belong to the queue until it is empty.
  package mutating func begin(_ data: UnsafeMutableBufferPointer<Float>, _ purpose: CollectivePurpose) {
    for start in stride(from: 0, to: data.count, by: Self.floats) {
      sums.append((.init(rebasing: data[start..<min(data.count, start + Self.floats)]), purpose))
    }
    advance()
  }

  /// Advances the sums as far as possible without waiting.
  package mutating func advance() {
    while advanceOnce() {}
    if taken == first + sums.count {
      first = taken
      sums.removeAll(keepingCapacity: true)
    }
    polled = .now
  }

  /// Waits until all sums are done, and lets MPI progress: other ranks may wait for messages of this one.
  package mutating func finish() {
    while !isEmpty {
      advance()
      if !isEmpty { cmpi_advance() }
    }
  }

  /// Advances every stage as far as possible.
  /// - Returns: whether any sum advanced.
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

  /// Adds the parts of this node's ranks in rank order, and begins the sum over nodes.
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
