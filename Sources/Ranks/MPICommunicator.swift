import CMPI
import CSystem
import Threading

/// The ranks that `mpirun` or `srun` started. Rank and size come from MPI alone.
package final class MPICommunicator: Communicator {
  package let rank: Int
  package let size: Int
  /// Seconds that arithmetic stood still for collectives since the start, by channel: waits, and the polls that move
  /// what goes on beside it.
  private var exposed = [0.0, 0.0, 0.0]
  /// Where set, it gets the seconds of every collective but the sums of gradients: the same ones, in the same order, on
  /// every rank.
  package var waits: [Double]?
  private var sums: SumQueue
  private var turns: ProcessorTurns?
  /// Of every rank, for a gather.
  private var bytes: [Int64]

  /// Starts MPI. Signal handlers that must survive it stand before this call.
  package init() {
    _ = cmpi_start()
    rank = Int(cmpi_rank())
    size = Int(cmpi_size())
    bytes = Array(repeating: 0, count: size)
    let ranks = Int(cmpi_node_size())
    let memory = cmpi_node_memory(Int64(NodeMemory.bytes(ranks: ranks)), Int64(NodeMemory.zeros(ranks: ranks))).map {
      NodeMemory($0, ranks: ranks, place: Int(cmpi_node_rank()))
    }
    sums = SumQueue(memory, adders: Int(cmpi_smallest_node()), nodes: Int(cmpi_node_count()))
  }

  /// Ranks on this rank's node.
  package var ranksOnNode: Int { Int(cmpi_node_size()) }
  /// The MPI library and its version.
  package static var library: String { String(cString: cmpi_library()) }
  package static var host: String { String(cString: cmpi_host()) }

  /// From now on, ranks of one thread take turns at their node's processors; see `ProcessorTurns`. Every rank calls it.
  /// - Parameter threads: that compute on this rank, the caller among them.
  package func takeTurns(threads: Int) {
    var own = csystem_own_seat()
    if threads > 1 { own.thread = 0 }
    var seats = Array(repeating: own, count: ranksOnNode)
    cmpi_gather_on_node(&own, &seats, Int64(MemoryLayout<csystem_seat>.stride))
    if cmpi_node_rank() == 0 { turns = ProcessorTurns(seats) }
  }

  /// Whether ranks of this node take turns at its processors; known to its first.
  package var takesTurns: Bool { turns != nil }

  /// Ends MPI; after the last collective.
  package func stop() {
    // A rank that has ended leaves its thread's number to others.
    barrier()
    turns?.stop()
    barrier()
    cmpi_stop()
  }

  /// Seconds since the start that the calling thread spent in collectives instead of computing.
  package var seconds: Double { exposed.reduce(0, +) }
  package func seconds(on channel: Channel) -> Double { exposed[Int(channel.rawValue)] }

  private func timed(_ channel: Channel, _ body: () -> Void) {
    let start = ContinuousClock.now
    body()
    let seconds = (ContinuousClock.now - start).seconds
    exposed[Int(channel.rawValue)] += seconds
    if channel != .gradients { waits?.append(seconds) }
  }

  private func reduce(
    _ data: UnsafeMutableRawPointer?, _ count: Int, _ type: cmpi_type, _ reduction: Reduction, _ channel: Channel,
    _ what: StaticString
  ) {
    if size == 1 || count == 0 { return }
    timed(channel) {
      what.withUTF8Buffer {
        cmpi_all_reduce(
          channel.rawValue, data, Int64(count), Int32(type.rawValue), reduction.rawValue,
          UnsafeRawPointer($0.baseAddress!).assumingMemoryBound(to: CChar.self))
      }
    }
  }

  package func allReduce(
    _ data: UnsafeMutableBufferPointer<Float>, _ reduction: Reduction, on channel: Channel, _ what: StaticString
  ) {
    reduce(data.baseAddress, data.count, CMPI_FLOAT, reduction, channel, what)
  }

  package func allReduce(
    _ data: UnsafeMutableBufferPointer<Double>, _ reduction: Reduction, on channel: Channel, _ what: StaticString
  ) {
    reduce(data.baseAddress, data.count, CMPI_DOUBLE, reduction, channel, what)
  }

  package func allReduce(
    _ data: UnsafeMutableBufferPointer<Int64>, _ reduction: Reduction, on channel: Channel, _ what: StaticString
  ) {
    reduce(data.baseAddress, data.count, CMPI_INT64, reduction, channel, what)
  }

  package func beginSum(_ data: UnsafeMutableBufferPointer<Float>, _ what: StaticString) {
    if size == 1 || data.isEmpty { return }
    timed(.gradients) { sums.begin(data, what) }
  }

  package var isSumming: Bool { !sums.isEmpty }

  package func advanceSums() {
    if sums.isDue { timed(.gradients) { sums.advance() } }
  }

  package func finishSums() {
    if !sums.isEmpty { timed(.gradients) { sums.finish() } }
  }

  package func allGather(
    _ send: UnsafePointer<Float>, rows: [Int], width: Int, into receive: UnsafeMutablePointer<Float>,
    _ what: StaticString
  ) {
    precondition(rows.count == size, "\(rows.count) counts of rows for \(size) ranks")
    timed(.control) {
      for rank in 0..<size { bytes[rank] = Int64(rows[rank] * width * MemoryLayout<Float>.stride) }
      what.withUTF8Buffer {
        cmpi_all_gather(
          Channel.control.rawValue, send, receive, bytes,
          UnsafeRawPointer($0.baseAddress!).assumingMemoryBound(to: CChar.self))
      }
    }
  }

  package func broadcast(_ data: UnsafeMutableRawBufferPointer, from root: Int, _ what: StaticString) {
    if size == 1 || data.isEmpty { return }
    timed(.control) {
      what.withUTF8Buffer {
        cmpi_broadcast(
          Channel.control.rawValue, data.baseAddress, Int64(data.count), Int32(root),
          UnsafeRawPointer($0.baseAddress!).assumingMemoryBound(to: CChar.self))
      }
    }
  }

  package func barrier() { cmpi_barrier(Channel.control.rawValue) }
  package func abort(_ message: String, code: Int32) -> Never { cmpi_abort(message, code) }
}
