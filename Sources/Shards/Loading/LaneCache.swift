import Foundation
import Ranks
import Synchronization

/// Bytes of consecutive samples, read with one call.
final class RunBytes: @unchecked Sendable {
  /// The first `count` bytes belong to this run.
  fileprivate(set) var bytes: [UInt8] = []
  /// Offset of the first byte in the shard.
  fileprivate(set) var offset = 0
  fileprivate(set) var count = 0

  /// Calls `body` with one sample's bytes.
  func with<R>(_ record: ImageRecord, _ body: (UnsafeRawBufferPointer) throws -> R) throws -> R {
    let start = record.offset - offset
    guard start >= 0, record.length >= 0, start + record.length <= count else {
      throw ImageError("its bytes \(start) ..< \(start + record.length) lie outside of the \(count) that were read")
    }
    return try bytes.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[start..<start + record.length])) }
  }
}

/// Reads samples in runs and keeps those that a rank's lanes will need soon: for each lane up to a window of blocks,
/// and up to one and a half windows at the ends of an epoch. `ReadPlan` chooses windows that fit the recipe's memory.
final class LaneCache: Sendable {
  private struct Held {
    let run: Range<Int>, windowEnd: Int
    let bytes: RunBytes
    /// Samples of the run that have not been used.
    var left: Int
  }

  private struct Lane {
    var held: [Held] = []
    /// Buffers whose samples are used up; reused when no thread reads them any more.
    var retired: [RunBytes] = []
  }

  private let source: any ImageSource
  private let order: Order
  private let rank: Int, ranks: Int, ahead: Int
  private let owned: Range<Int>
  private let lanes: [Locked]
  private let read = Atomic<Int>(0)
  /// Bytes read so far.
  var bytesRead: Int { read.load(ordering: .relaxed) }

  private final class Locked: Sendable { let lane = Mutex(Lane()) }

  init(_ source: any ImageSource, _ order: Order, rank: Int, ranks: Int, ahead: Int) {
    self.source = source
    self.order = order
    self.rank = rank
    self.ranks = ranks
    self.ahead = ahead
    owned = share(of: order.batch, rank: rank, ranks: ranks)
    lanes = owned.map { _ in Locked() }
  }

  /// Bytes that contain a sample, read if necessary.
  /// - Parameter spare: the calling thread's buffer, for samples that are not kept.
  func bytes(step: Int, position: Int, _ place: Order.Place, spare: RunBytes) throws -> RunBytes {
    // A smaller last batch is divided over the ranks anew, so a position may belong to another rank's lane.
    guard order.block > 1, owned.contains(position) else { return try fetch(place.sample..<place.sample + 1, spare) }
    let run = needed(of: place, position)
    return try lanes[position - owned.lowerBound].lane.withLock { lane throws in
      try take(run, place, step: step, from: &lane)
    }
  }

  private func take(_ run: Range<Int>, _ place: Order.Place, step: Int, from lane: inout Lane) throws -> RunBytes {
    // No thread is more than `ahead` steps behind another, so nobody needs this window any more.
    for i in lane.held.indices.reversed() where lane.held[i].windowEnd + ahead < step {
      lane.retired.append(lane.held.remove(at: i).bytes)
    }
    if let i = lane.held.firstIndex(where: { $0.run == run && $0.windowEnd == place.windowEnd }) {
      lane.held[i].left -= 1
      let bytes = lane.held[i].bytes
      if lane.held[i].left == 0 { lane.retired.append(lane.held.remove(at: i).bytes) }
      return bytes
    }
    var buffer = RunBytes()
    for i in lane.retired.indices.reversed() where isKnownUniquelyReferenced(&lane.retired[i]) {
      buffer = lane.retired.remove(at: i)
      break
    }
    let bytes = try fetch(run, buffer)
    if run.count > 1 {
      lane.held.append(Held(run: run, windowEnd: place.windowEnd, bytes: bytes, left: run.count - 1))
    } else {
      lane.retired.append(bytes)
    }
    return bytes
  }

  /// The part of a run that this rank uses and that lies in the sample's shard.
  private func needed(of place: Order.Place, _ position: Int) -> Range<Int> {
    var run = place.run.clamped(to: source.neighbours(of: place.sample))
    let lastSize = order.size(ofStep: place.windowEnd)
    if lastSize < order.batch, !share(of: lastSize, rank: rank, ranks: ranks).contains(position) {
      let foreign = order.place(step: place.windowEnd, position: position).sample
      if foreign < place.sample { run = max(run.lowerBound, foreign + 1)..<run.upperBound }
      if foreign > place.sample { run = run.lowerBound..<min(run.upperBound, foreign) }
    }
    return run
  }

  private func fetch(_ run: Range<Int>, _ buffer: RunBytes) throws -> RunBytes {
    let first = try source.record(run.lowerBound)
    let last = try source.record(run.upperBound - 1)
    buffer.offset = first.offset
    buffer.count = last.offset + last.length - first.offset
    try source.fetch(run, into: &buffer.bytes)
    read.wrappingAdd(buffer.count, ordering: .relaxed)
    return buffer
  }
}
