import CMPI
import CSystem
import Threading

/// The ranks that `mpirun` or `srun` started. Rank and size are taken from MPI, not from environment variables.
package final class MPICommunicator: Communicator {
  package let rank: Int
  package let size: Int
  private let measured = CollectiveTimes()
  package var times: CollectiveTimes? { measured }
  private var sums: SumQueue
  private var turns: ProcessorTurns?
  /// Bytes of every rank for a gather. Allocated once, because the step loop must not allocate.
  private var bytes: [Int64]

  /// Starts MPI. Install signal handlers that must survive its start before this call.
  package init() {
    _ = cmpi_start()
    rank = Int(cmpi_rank())
    size = Int(cmpi_size())
    bytes = Array(repeating: 0, count: size)
    let memory = Self.nodeMemory(ranks: Int(cmpi_node_size()))
    sums = SumQueue(memory, adders: Int(cmpi_smallest_node()), nodes: Int(cmpi_node_count()))
  }

  /// Memory that this node's ranks share for sums; nil if they cannot share memory or the rank is alone on its node.
  private static func nodeMemory(ranks: Int) -> NodeMemory? {
    let bytes = NodeMemory.bytes(ranks: ranks)
    let hasRoom = SharedMemoryRoom.isEnough(for: bytes)
    let memory = cmpi_node_memory(Int64(bytes), Int64(NodeMemory.zeros(ranks: ranks)), hasRoom ? 1 : 0)
    return memory.map { NodeMemory($0, ranks: ranks, place: Int(cmpi_node_rank())) }
  }

  package var ranksOnNode: Int { Int(cmpi_node_size()) }
  /// The MPI library and its version.
  package static var library: String { String(cString: cmpi_library()) }

  /// From now on, single-threaded ranks take turns at their node's processors; see `ProcessorTurns`. Every rank must
  /// call it.
  /// - Parameter threads: computing threads of this rank, the caller included.
  package func takeTurns(threads: Int) {
    var own = csystem_own_seat()
    if threads > 1 { own.thread = 0 }
    var seats = Array(repeating: own, count: ranksOnNode)
    cmpi_gather_on_node(&own, &seats, Int64(MemoryLayout<csystem_seat>.stride))
    if cmpi_node_rank() == 0 { turns = ProcessorTurns(seats) }
  }

  /// Known to the first rank of each node only.
  package var takesTurns: Bool { turns != nil }

  package func stop() {
    // The barriers keep all ranks alive while threads are moved: the id of an ended thread may be reused.
    barrier()
    turns?.stop()
    barrier()
    cmpi_stop()
  }

  private func reduce(
    _ data: UnsafeMutableRawPointer?, _ count: Int, _ type: cmpi_type, _ reduction: Reduction, _ channel: Channel,
    _ purpose: CollectivePurpose
  ) {
    if size == 1 || count == 0 { return }
    measured.measure(channel) {
      purpose.withC {
        cmpi_all_reduce(channel.rawValue, data, Int64(count), Int32(type.rawValue), reduction.rawValue, $0)
      }
    }
  }

  package func allReduce(
    _ data: UnsafeMutableBufferPointer<Float>, _ reduction: Reduction, on channel: Channel, _ purpose: CollectivePurpose
  ) {
    reduce(data.baseAddress, data.count, CMPI_FLOAT, reduction, channel, purpose)
  }

  package func allReduce(
    _ data: UnsafeMutableBufferPointer<Double>, _ reduction: Reduction, on channel: Channel,
    _ purpose: CollectivePurpose
  ) {
    reduce(data.baseAddress, data.count, CMPI_DOUBLE, reduction, channel, purpose)
  }

  package func allReduce(
    _ data: UnsafeMutableBufferPointer<Int64>, _ reduction: Reduction, on channel: Channel, _ purpose: CollectivePurpose
  ) {
    reduce(data.baseAddress, data.count, CMPI_INT64, reduction, channel, purpose)
  }

  package func beginSum(_ data: UnsafeMutableBufferPointer<Float>, _ purpose: CollectivePurpose) {
    if size == 1 || data.isEmpty { return }
    measured.measure(.gradients) { sums.begin(data, purpose) }
  }

  package var isSumming: Bool { !sums.isEmpty }

  package func advanceSums() {
    if sums.isDue { measured.measure(.gradients) { sums.advance() } }
  }

  package func finishSums() {
    if !sums.isEmpty { measured.measure(.gradients) { sums.finish() } }
  }

  package func allGather(
    _ send: UnsafePointer<Float>, rows: [Int], width: Int, into receive: UnsafeMutablePointer<Float>,
    _ purpose: CollectivePurpose
  ) {
    precondition(rows.count == size, "\(rows.count) counts of rows for \(size) ranks")
    measured.measure(.control) {
      for rank in 0..<size { bytes[rank] = Int64(rows[rank] * width * MemoryLayout<Float>.stride) }
      purpose.withC { cmpi_all_gather(Channel.control.rawValue, send, receive, bytes, $0) }
    }
  }

  package func broadcast(_ data: UnsafeMutableRawBufferPointer, from root: Int, _ purpose: CollectivePurpose) {
    if size == 1 || data.isEmpty { return }
    measured.measure(.control) {
      purpose.withC {
        cmpi_broadcast(Channel.control.rawValue, data.baseAddress, Int64(data.count), Int32(root), $0)
      }
    }
  }

  package func barrier() { cmpi_barrier(Channel.control.rawValue) }
  package func abort(_ message: String, code: Int32) -> Never { cmpi_abort(message, code) }
}
