import COpenBLAS
import Ranks
import Threading

/// What computation runs on: the threads, the memory and the communicator to the other ranks.
package final class Context {
  package let team: ThreadTeam
  package let arena: Arena
  package let communicator: any Communicator
  /// A dry run allocates as a real one, but computes and sends nothing: it plans the arena.
  package private(set) var isDry = false
  /// If set, every layer's output is checked; see `Watch`.
  package var watch: Watch?
  /// If set, the time and the work of every part of a step are added up; in a dry run the work alone says something.
  package var profile: Profile?
  /// The algorithm for convolutions.
  package var convolution = ConvolutionAlgorithm.fast

  package init(threads: Int = 1, communicator: any Communicator = SingleProcess(), arena: Arena = Arena()) {
    team = ThreadTeam(count: threads)
    self.communicator = communicator
    self.arena = arena
    copenblas_single_thread()
  }

  /// Runs `body` once for each block, spread over the threads; does nothing in a dry run. Between its blocks the
  /// calling thread advances sums over ranks, because MPI makes no progress by itself.
  package func run(_ blocks: Int, _ body: (_ block: Int, _ thread: Int) -> Void) {
    if isDry { return }
    guard communicator.isSumming else { return team.run(blocks, body) }
    team.run(blocks) { block, thread in
      body(block, thread)
      if thread == 0 { part(.communication) { communicator.advanceSums() } }
    }
  }

  /// Runs `body` as a dry run.
  package func dry<T>(_ body: () throws -> T) rethrows -> T {
    isDry = true
    defer { isDry = false }
    return try body()
  }

  /// Runs `body` as a part of the step for the profile, with the operations it does and the bytes it moves.
  @inline(__always)
  package func part<T>(
    _ part: Profile.Part, operations: Double = 0, bytes: Int = 0, layer: @autoclosure () -> String? = nil,
    _ body: () throws -> T
  ) rethrows -> T {
    guard let profile else { return try body() }
    return try profile.measure(part, operations: operations, bytes: bytes, layer, body)
  }

  /// Runs `body` and releases what it allocates from the arena.
  package func scratch<T>(_ body: (Arena) throws -> T) rethrows -> T {
    let mark = arena.mark()
    defer { arena.release(to: mark) }
    return try body(arena)
  }

  package func allReduce(
    _ data: UnsafeMutableBufferPointer<Float>, _ reduction: Reduction = .sum, on channel: Channel,
    _ purpose: CollectivePurpose
  ) {
    if !isDry { part(.communication) { communicator.allReduce(data, reduction, on: channel, purpose) } }
  }

  package func allReduce(_ data: UnsafeMutableBufferPointer<Int64>, on channel: Channel, _ purpose: CollectivePurpose) {
    if !isDry { part(.communication) { communicator.allReduce(data, .sum, on: channel, purpose) } }
  }

  package func allReduce(
    _ data: UnsafeMutableBufferPointer<Double>, _ reduction: Reduction = .sum, on channel: Channel,
    _ purpose: CollectivePurpose
  ) {
    if !isDry { part(.communication) { communicator.allReduce(data, reduction, on: channel, purpose) } }
  }

  /// See `Communicator.beginSum`.
  package func beginSum(_ data: UnsafeMutableBufferPointer<Float>, _ purpose: CollectivePurpose) {
    if !isDry { part(.communication) { communicator.beginSum(data, purpose) } }
  }

  package func finishSums() {
    if !isDry { part(.communication) { communicator.finishSums() } }
  }
}

/// Row-major C ← alpha · op(A) · op(B) + beta · C, in the calling thread.
@inline(__always)
package func sgemm(
  _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, lda: Int, transposed transA: Bool = false,
  _ b: UnsafePointer<Float>, ldb: Int, transposed transB: Bool = false,
  into c: UnsafeMutablePointer<Float>, ldc: Int, alpha: Float = 1, beta: Float = 0
) {
  copenblas_sgemm(
    transA ? 1 : 0, transB ? 1 : 0, Int32(m), Int32(n), Int32(k), alpha, a, Int32(lda), b, Int32(ldb), beta, c,
    Int32(ldc))
}
