import Foundation
import Ranks

/// Ranks as threads of this process, for tests without `mpirun`.
package enum Ranks {
  private final class Results<T, E: Error>: @unchecked Sendable {
    let lock = NSLock()
    var values: [Result<T, E>?]
    init(_ count: Int) { values = Array(repeating: nil, count: count) }
  }

  /// Runs `body` once on each of `count` ranks at the same time.
  /// - silent: a purpose whose all-reduces do nothing, for controls that must fail.
  /// - Returns: the results in rank order.
  package static func run<T, E: Error>(
    _ count: Int, silent: CollectivePurpose? = nil, _ body: @escaping @Sendable (ThreadCommunicator) throws(E) -> T
  ) throws(E) -> [T] {
    let exchanges = (0..<3).map { _ in Exchange(count) }
    let results = Results<T, E>(count)
    let threads = (0..<count).map { rank in
      let thread = Thread {
        let communicator = ThreadCommunicator(rank: rank, size: count, exchanges, silent: silent)
        let result = Result { () throws(E) -> T in try body(communicator) }
        results.lock.withLock { results.values[rank] = result }
        exchanges[0].meet()
      }
      thread.stackSize = 8 << 20
      return thread
    }
    for thread in threads { thread.start() }
    while results.lock.withLock({ results.values.contains { $0 == nil } }) { usleep(200) }
    var all: [T] = []
    for result in results.values { all.append(try result!.get()) }
    return all
  }
}

/// The meeting point of one channel, where ranks read each other's buffers.
private final class Exchange: @unchecked Sendable {
  private let size: Int
  private let condition = NSCondition()
  private var arrived = 0, generation = 0
  private var buffers: [UnsafeRawPointer?]
  private var calls: [String]

  init(_ size: Int) {
    self.size = size
    buffers = Array(repeating: nil, count: size)
    calls = Array(repeating: "", count: size)
  }

  /// A barrier: returns when all ranks have called it.
  func meet() {
    condition.lock()
    defer { condition.unlock() }
    let mine = generation
    arrived += 1
    if arrived == size {
      arrived = 0
      generation += 1
      condition.broadcast()
      return
    }
    while generation == mine {
      precondition(condition.wait(until: Date(timeIntervalSinceNow: 120)), "a rank waits in vain; last calls: \(calls)")
    }
  }

  /// Runs `read` with the buffers of all ranks, while none of them changes. All ranks must make the same call.
  func share<T>(_ rank: Int, _ buffer: UnsafeRawPointer?, _ call: String, _ read: ([UnsafeRawPointer?]) -> T) -> T {
    condition.withLock {
      buffers[rank] = buffer
      calls[rank] = call
    }
    meet()
    let (all, said) = condition.withLock { (buffers, calls) }
    precondition(Set(said).count == 1, "ranks are in different collectives: \(said)")
    let result = read(all)
    meet()
    return result
  }
}

/// One rank of `Ranks.run`. Sums are in rank order, so every rank gets the same bits.
package final class ThreadCommunicator: Communicator, @unchecked Sendable {
  package let rank: Int
  package let size: Int
  private let exchanges: [Exchange]
  private let silent: CollectivePurpose?
  /// Purposes of the all-reduces so far, in order.
  package private(set) var calls: [CollectivePurpose] = []

  fileprivate init(rank: Int, size: Int, _ exchanges: [Exchange], silent: CollectivePurpose?) {
    self.rank = rank
    self.size = size
    self.exchanges = exchanges
    self.silent = silent
  }

  private func reduce<T: Numeric & Comparable>(
    _ data: UnsafeMutableBufferPointer<T>, _ reduction: Reduction, _ channel: Channel, _ purpose: CollectivePurpose
  ) {
    calls.append(purpose)
    if purpose == silent { return }
    let result = exchanges[Int(channel.rawValue)].share(
      rank, data.baseAddress, "\(purpose): \(reduction) of \(data.count) \(T.self)"
    ) { all in
      let all = all.map { UnsafeBufferPointer(start: $0?.assumingMemoryBound(to: T.self), count: data.count) }
      return data.indices.map { i in
        all.dropFirst().reduce(all[0][i]) {
          switch reduction {
          case .sum: $0 + $1[i]
          case .max: max($0, $1[i])
          case .min: min($0, $1[i])
          }
        }
      }
    }
    for i in data.indices { data[i] = result[i] }
  }

  package func allReduce(
    _ data: UnsafeMutableBufferPointer<Float>, _ reduction: Reduction, on channel: Channel, _ purpose: CollectivePurpose
  ) {
    reduce(data, reduction, channel, purpose)
  }
  package func allReduce(
    _ data: UnsafeMutableBufferPointer<Double>, _ reduction: Reduction, on channel: Channel,
    _ purpose: CollectivePurpose
  ) {
    reduce(data, reduction, channel, purpose)
  }
  package func allReduce(
    _ data: UnsafeMutableBufferPointer<Int64>, _ reduction: Reduction, on channel: Channel, _ purpose: CollectivePurpose
  ) {
    reduce(data, reduction, channel, purpose)
  }

  package func allGather(
    _ send: UnsafePointer<Float>, rows: [Int], width: Int, into receive: UnsafeMutablePointer<Float>,
    _ purpose: CollectivePurpose
  ) {
    let counts = rows.map { $0 * width }
    precondition(counts.count == size, "\(counts.count) counts for \(size) ranks")
    let rows = exchanges[0].share(rank, send, "gather \(purpose): \(counts)") { all in
      zip(all, counts).flatMap { Array(UnsafeBufferPointer(start: $0?.assumingMemoryBound(to: Float.self), count: $1)) }
    }
    for i in rows.indices { receive[i] = rows[i] }
  }

  package func broadcast(_ data: UnsafeMutableRawBufferPointer, from root: Int, _ purpose: CollectivePurpose) {
    let bytes = exchanges[0].share(rank, data.baseAddress, "broadcast \(purpose): \(data.count) bytes from \(root)") {
      Array(UnsafeRawBufferPointer(start: $0[root], count: data.count))
    }
    data.copyBytes(from: bytes)
  }

  package func barrier() { exchanges[0].share(rank, nil, "barrier") { _ in } }
  package func abort(_ message: String, code: Int32) -> Never { fatalError("rank \(rank) of \(size): \(message)") }
}
