import Engine
import Foundation
import Ranks

/// A few ranks as threads of one process. Like MPI's, every collective is a meeting of all ranks, sums are taken in rank
/// order, and every rank gets the same bits.
final class ThreadCommunicator: Communicator, @unchecked Sendable {
  private final class Meeting: @unchecked Sendable {
    private let condition = NSCondition()
    private let size: Int
    private var waiting = 0
    private var generation = 0
    var sent: [UnsafeRawPointer?]
    init(_ size: Int) {
      self.size = size
      sent = Array(repeating: nil, count: size)
    }

    func wait() {
      condition.lock()
      defer { condition.unlock() }
      let own = generation
      waiting += 1
      if waiting == size {
        waiting = 0
        generation += 1
        condition.broadcast()
      }
      while generation == own { condition.wait() }
    }

    /// Shows every rank all ranks' pointers for the time of `body`.
    func exchange(_ rank: Int, _ pointer: UnsafeRawPointer?, _ body: ([UnsafeRawPointer?]) -> Void) {
      condition.lock()
      sent[rank] = pointer
      condition.unlock()
      wait()
      body(sent)
      wait()
    }
  }

  let rank: Int
  let size: Int
  private let meeting: Meeting
  private init(_ rank: Int, _ size: Int, _ meeting: Meeting) {
    self.rank = rank
    self.size = size
    self.meeting = meeting
  }

  /// Runs `body` on each rank and gives the results in rank order.
  static func run<T: Sendable>(ranks: Int, _ body: @escaping @Sendable (ThreadCommunicator) throws -> T) throws -> [T] {
    let meeting = Meeting(ranks)
    let lock = NSLock()
    nonisolated(unsafe) var results = [Result<T, any Error>?](repeating: nil, count: ranks)
    let group = DispatchGroup()
    for rank in 0..<ranks {
      group.enter()
      let thread = Thread {
        let result = Result { try body(ThreadCommunicator(rank, ranks, meeting)) }
        lock.withLock { results[rank] = result }
        group.leave()
      }
      thread.stackSize = 8 << 20
      thread.start()
    }
    group.wait()
    return try results.map { try $0!.get() }
  }

  private func reduce<T: Numeric & Comparable>(_ data: UnsafeMutableBufferPointer<T>, _ reduction: Reduction) {
    var result = [T](repeating: 0, count: data.count)
    meeting.exchange(rank, UnsafeRawPointer(data.baseAddress)) { sent in
      for (rank, pointer) in sent.enumerated() {
        guard let values = pointer?.assumingMemoryBound(to: T.self) else { continue }
        for i in 0..<data.count {
          switch reduction {
          case _ where rank == 0: result[i] = values[i]
          case .sum: result[i] += values[i]
          case .max: result[i] = max(result[i], values[i])
          case .min: result[i] = min(result[i], values[i])
          }
        }
      }
    }
    for i in 0..<data.count { data[i] = result[i] }
  }

  func allReduce(_ data: UnsafeMutableBufferPointer<Float>, _ reduction: Reduction, on _: Channel, _: StaticString) {
    reduce(data, reduction)
  }
  func allReduce(_ data: UnsafeMutableBufferPointer<Double>, _ reduction: Reduction, on _: Channel, _: StaticString) {
    reduce(data, reduction)
  }
  func allReduce(_ data: UnsafeMutableBufferPointer<Int64>, _ reduction: Reduction, on _: Channel, _: StaticString) {
    reduce(data, reduction)
  }

  func allGather(
    _ send: UnsafePointer<Float>, rows: [Int], width: Int, into receive: UnsafeMutablePointer<Float>, _: StaticString
  ) {
    meeting.exchange(rank, send) { sent in
      var place = receive
      for (count, pointer) in zip(rows.map { $0 * width }, sent) {
        if count > 0 { place.update(from: pointer!.assumingMemoryBound(to: Float.self), count: count) }
        place += count
      }
    }
  }

  func broadcast(_ data: UnsafeMutableRawBufferPointer, from root: Int, _: StaticString) {
    meeting.exchange(rank, UnsafeRawPointer(data.baseAddress)) { sent in
      if rank != root, let pointer = sent[root] {
        data.copyMemory(from: UnsafeRawBufferPointer(start: pointer, count: data.count))
      }
    }
  }

  func barrier() { meeting.wait() }
  func abort(_ message: String, code: Int32) -> Never { fatalError(message) }
}
