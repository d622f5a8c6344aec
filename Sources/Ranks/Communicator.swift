import CMPI

/// The kind of data that a collective exchanges; times are measured by channel. Each channel has its own MPI
/// communicator, so that collectives of different channels may interleave differently on each rank.
package enum Channel: Int32, Sendable { case control, statistics, gradients }

/// How an all-reduce combines the values of the ranks.
package enum Reduction: Int32, Sendable { case sum, max, min }

/// The ranks of a job. With one process every operation is the identity.
///
/// Collectives do not throw: a failure is reported with its rank, host and purpose, and ends the whole job.
package protocol Communicator: AnyObject {
  var rank: Int { get }
  var size: Int { get }
  /// Ranks on this rank's node, this one among them.
  var ranksOnNode: Int { get }
  /// The name of this rank's node.
  var host: String { get }
  /// Whether ranks of this node take turns at its processors, as far as this rank knows. See `ProcessorTurns`.
  var takesTurns: Bool { get }
  /// Time spent in collectives; nil if it is not measured.
  var times: CollectiveTimes? { get }
  /// All-reduce in place. Every rank gets the same bits.
  func allReduce(
    _ data: UnsafeMutableBufferPointer<Float>, _ reduction: Reduction, on channel: Channel, _ purpose: CollectivePurpose
  )
  func allReduce(
    _ data: UnsafeMutableBufferPointer<Double>, _ reduction: Reduction, on channel: Channel,
    _ purpose: CollectivePurpose)
  func allReduce(
    _ data: UnsafeMutableBufferPointer<Int64>, _ reduction: Reduction, on channel: Channel, _ purpose: CollectivePurpose
  )
  /// Begins a sum over all ranks, in place. All ranks must begin the same sums in the same order, and get the same
  /// bits. The floats may not be touched until `finishSums`.
  func beginSum(_ data: UnsafeMutableBufferPointer<Float>, _ purpose: CollectivePurpose)
  /// Whether sums are pending.
  var isSumming: Bool { get }
  /// Advances pending sums without waiting. Call it regularly during other work.
  func advanceSums()
  /// Waits until all sums are done.
  func finishSums()
  /// Concatenates `rows[r]` rows of `width` floats of every rank r in rank order.
  func allGather(
    _ send: UnsafePointer<Float>, rows: [Int], width: Int, into receive: UnsafeMutablePointer<Float>,
    _ purpose: CollectivePurpose)
  func broadcast(_ data: UnsafeMutableRawBufferPointer, from root: Int, _ purpose: CollectivePurpose)
  func barrier()
  /// Shuts the communicator down. Call it after the last collective.
  func stop()
  /// Reports a message and ends the whole job with an exit code.
  func abort(_ message: String, code: Int32) -> Never
}

/// Defaults for ranks on one node whose sums complete at once.
extension Communicator {
  package var ranksOnNode: Int { size }
  package var host: String { String(cString: cmpi_host()) }
  package var takesTurns: Bool { false }
  package var times: CollectiveTimes? { nil }
  package func stop() {}
  package func beginSum(_ data: UnsafeMutableBufferPointer<Float>, _ purpose: CollectivePurpose) {
    allReduce(data, .sum, on: .gradients, purpose)
  }
  package var isSumming: Bool { false }
  package func advanceSums() {}
  package func finishSums() {}
}

extension Communicator {
  /// Whether this is rank 0.
  package var isRoot: Bool { rank == 0 }

  /// All-reduce of one number.
  package func allReduce(_ value: Double, _ reduction: Reduction) -> Double {
    var value = value
    withUnsafeMutablePointer(to: &value) {
      allReduce(UnsafeMutableBufferPointer(start: $0, count: 1), reduction, on: .control, "a number")
    }
    return value
  }

  /// All-reduce of one integer.
  package func allReduce(_ value: Int, _ reduction: Reduction) -> Int {
    var value = Int64(value)
    withUnsafeMutablePointer(to: &value) {
      allReduce(UnsafeMutableBufferPointer(start: $0, count: 1), reduction, on: .control, "a number")
    }
    return Int(value)
  }

  /// Broadcasts the root's bytes. The other ranks pass nil.
  package func broadcast(_ bytes: [UInt8]?, from root: Int = 0) -> [UInt8] {
    var count = Int64(bytes?.count ?? 0)
    withUnsafeMutableBytes(of: &count) { broadcast($0, from: root, "a length") }
    var bytes = bytes ?? []
    if bytes.count != count { bytes = [UInt8](repeating: 0, count: Int(count)) }
    bytes.withUnsafeMutableBytes { broadcast($0, from: root, "a message") }
    return bytes
  }

  /// All-gather of bytes: every rank gets the bytes of all ranks, by rank.
  package func gather(_ bytes: [UInt8]) -> [[UInt8]] {
    var counts = [Int64](repeating: 0, count: size)
    counts[rank] = Int64(bytes.count)
    counts.withUnsafeMutableBufferPointer { allReduce($0, .sum, on: .control, "lengths of messages") }
    // Bytes are sent as floats, whose values are never interpreted.
    let width = MemoryLayout<Float>.stride
    let rows = counts.map { (Int($0) + width - 1) / width }
    var own = [Float](repeating: 0, count: max(1, rows[rank]))
    own.withUnsafeMutableBytes { $0.copyBytes(from: bytes) }
    var all = [Float](repeating: 0, count: max(1, rows.reduce(0, +)))
    allGather(&own, rows: rows, width: 1, into: &all, "messages")
    return all.withUnsafeBytes { all in
      var start = 0
      return rows.indices.map { rank in
        defer { start += rows[rank] * width }
        return Array(all[start..<start + Int(counts[rank])])
      }
    }
  }

  /// Runs `body` on the root alone and returns its text on every rank. If it fails, every rank throws.
  package func fromRoot(_ body: () throws -> String) throws -> String {
    var text = ""
    var failed: (any Error)?
    if isRoot {
      do { text = try body() } catch {
        failed = error
        text = "\(error)"
      }
    }
    let agreed = String(
      decoding: broadcast(isRoot ? Array(((failed == nil ? "+" : "-") + text).utf8) : nil), as: UTF8.self)
    if let failed { throw failed }
    if agreed.first == "-" { throw RankFailed(description: String(agreed.dropFirst())) }
    return String(agreed.dropFirst())
  }

  /// Runs `body` on the root alone. If it fails, every rank throws.
  package func onRoot(_ body: () throws -> Void) throws {
    _ = try fromRoot {
      try body()
      return ""
    }
  }

  /// Runs `body` on every rank. If it fails on any, all ranks throw the error of the lowest rank that failed.
  package func onEvery(_ body: () throws -> Void) throws {
    var failed: (any Error)?
    do { try body() } catch { failed = error }
    let first = allReduce(failed == nil ? size : rank, .min)
    if first == size { return }
    let words = String(decoding: broadcast(rank == first ? Array("\(failed!)".utf8) : nil, from: first), as: UTF8.self)
    if let failed, rank == first { throw failed }
    throw RankFailed(description: words)
  }
}

/// The error of another rank.
package struct RankFailed: Error, CustomStringConvertible { package let description: String }
