import CMPI

/// Sums over ranks that go on while this rank computes: MPI's non-blocking all-reduces, which move only when MPI is
/// called. All ranks put the same sums in the same order, and they begin in that order; when they do is no matter.
struct SumQueue {
  private typealias Sum = (data: UnsafeMutableBufferPointer<Float>, what: StaticString)
  /// Sums under way at the same time: a megabyte of gradients fills a link of 1 Gbit/s for the 8 ms that a block of
  /// arithmetic may keep the thread from the next poll; statistics, which share the link, wait behind no more.
  private static let window = Int(CMPI_REQUESTS)
  /// Time between polls.
  private static let interval = Duration.microseconds(100)

  private var sums: [Sum] = []
  /// The first so many are done, or were begun.
  private var done = 0, begun = 0
  private var polled = ContinuousClock.now

  var isEmpty: Bool { sums.isEmpty }
  /// Whether there is something to move, and the last time was long enough ago.
  var isDue: Bool { !isEmpty && ContinuousClock.now - polled > Self.interval }

  mutating func begin(_ data: UnsafeMutableBufferPointer<Float>, _ what: StaticString) {
    sums.append((data, what))
    beginNext()
  }

  /// Moves what is under way, and begins what there is room for.
  mutating func advance() {
    while done < begun, cmpi_is_done(Int32(done % Self.window)) != 0 {
      done += 1
      beginNext()
    }
    if done == sums.count {
      sums.removeAll(keepingCapacity: true)
      (done, begun) = (0, 0)
    }
    polled = .now
  }

  private mutating func beginNext() {
    guard begun < sums.count, begun - done < Self.window else { return }
    let (data, what) = sums[begun]
    what.withUTF8Buffer {
      cmpi_begin_all_reduce(
        Int32(begun % Self.window), Channel.gradients.rawValue, data.baseAddress, Int64(data.count), Int32(CMPI_FLOAT.rawValue),
        Reduction.sum.rawValue, UnsafeRawPointer($0.baseAddress!).assumingMemoryBound(to: CChar.self))
    }
    begun += 1
  }
}
