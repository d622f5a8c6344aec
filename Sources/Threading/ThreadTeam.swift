import CSystem
import Foundation
import Synchronization

/// A fixed team of threads that share numbered blocks of work. The caller is one of them.
///
/// Any thread may take any block, so results must not depend on it: sums over blocks are stored by block and merged in
/// block order. Then every number of threads gives the same bits.
package final class ThreadTeam: @unchecked Sendable {
  /// Threads in the team, the caller included.
  package let count: Int

  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let started = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let finished = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let next = Atomic<Int>(0)
  private var body = csystem_closure()  // borrowed while `run` runs
  private var blocks = 0
  /// Counts the runs. It is raised after `body`, `blocks` and `running` are written, so a worker that sees the new
  /// count sees those too.
  private let generation = Atomic<Int>(0)
  /// Workers that have not finished the current run.
  private let running = Atomic<Int>(0)
  private let stopping = Atomic<Bool>(false)
  /// Spin count before sleeping: a wake-up (about 50 µs) costs more than most waits. 0 where threads share processors,
  /// because a spinning thread may occupy the processor that the awaited one needs.
  private let spins: Int
  private var threads: [pthread_t] = []

  /// - Parameter count: how many threads; at least 1.
  package init(count: Int) {
    precondition(count > 0, "a team of \(count) threads")
    self.count = count
    spins = count <= boundProcessors().count ? 2000 : 0
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(started, nil)
    pthread_cond_init(finished, nil)
    for thread in 1..<max(count, 1) {
      let start = Unmanaged.passRetained(Start(team: Unmanaged.passUnretained(self), thread: thread))
      var handle = pthread_t()
      let status = pthread_create(
        &handle, nil,
        { argument in
          let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
          start.team._withUnsafeGuaranteedRef { $0.work(thread: start.thread) }
          return nil
        }, start.toOpaque())
      precondition(status == 0, "could not start thread \(thread) of \(count): \(String(cString: strerror(status)))")
      threads.append(handle)
    }
  }

  /// Tests whether the system lets this process start so many more threads.
  /// - Returns: the error of `pthread_create`; nil on success.
  package static func failure(startingThreads count: Int) -> Int32? {
    // The threads wait at the gate, so that all exist at the same time.
    let gate = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    pthread_mutex_init(gate, nil)
    pthread_mutex_lock(gate)
    var threads: [pthread_t] = []
    var failure: Int32?
    while threads.count < count, failure == nil {
      var handle = pthread_t()
      let status = pthread_create(
        &handle, nil,
        { gate in
          let gate = gate!.assumingMemoryBound(to: pthread_mutex_t.self)
          pthread_mutex_lock(gate)
          pthread_mutex_unlock(gate)
          return nil
        }, gate)
      if status == 0 { threads.append(handle) } else { failure = status }
    }
    pthread_mutex_unlock(gate)
    for thread in threads { pthread_join(thread, nil) }
    pthread_mutex_destroy(gate)
    gate.deallocate()
    return failure
  }

  deinit {
    pthread_mutex_lock(mutex)
    stopping.store(true, ordering: .releasing)
    pthread_cond_broadcast(started)
    pthread_mutex_unlock(mutex)
    for thread in threads { pthread_join(thread, nil) }
    pthread_mutex_destroy(mutex)
    pthread_cond_destroy(started)
    pthread_cond_destroy(finished)
    mutex.deallocate()
    started.deallocate()
    finished.deallocate()
  }

  /// Runs `body` once for each block in 0 ..< blocks on the team's threads, and returns when all are done.
  /// - Parameter body: gets the block and the thread (0 ..< count) that runs it.
  package func run(_ blocks: Int, _ body: (_ block: Int, _ thread: Int) -> Void) {
    if count == 1 || blocks <= 1 {
      for block in 0..<blocks { body(block, 0) }
      return
    }
    self.blocks = blocks
    lend(body, to: Unmanaged.passUnretained(self).toOpaque()) { team, body in
      Unmanaged<ThreadTeam>.fromOpaque(team)._withUnsafeGuaranteedRef { $0.share(body) }
    }
  }

  private func share(_ body: csystem_closure) {
    self.body = body
    next.store(0, ordering: .relaxed)
    running.store(count - 1, ordering: .relaxed)
    pthread_mutex_lock(mutex)
    generation.wrappingAdd(1, ordering: .releasing)
    pthread_cond_broadcast(started)
    pthread_mutex_unlock(mutex)
    take(thread: 0)
    wait(on: finished) { running.load(ordering: .acquiring) == 0 }
  }

  /// Returns when `condition` holds. Whoever makes it true signals afterwards. Spins for a while, then sleeps.
  private func wait(on signal: UnsafeMutablePointer<pthread_cond_t>, until condition: () -> Bool) {
    for _ in 0..<spins {
      if condition() { return }
      csystem_pause()
    }
    pthread_mutex_lock(mutex)
    while !condition() { pthread_cond_wait(signal, mutex) }
    pthread_mutex_unlock(mutex)
  }

  private func take(thread: Int) {
    let body = body
    let blocks = blocks
    while true {
      let block = next.wrappingAdd(1, ordering: .relaxed).oldValue
      if block >= blocks { return }
      csystem_call(body, block, thread)
    }
  }

  private func work(thread: Int) {
    var seen = 0
    while true {
      wait(on: started) { generation.load(ordering: .acquiring) != seen || stopping.load(ordering: .acquiring) }
      if stopping.load(ordering: .acquiring) { return }
      seen = generation.load(ordering: .acquiring)
      take(thread: thread)
      if running.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 {
        // Without the lock the signal could fall between the caller's last check and its sleep, and be lost.
        pthread_mutex_lock(mutex)
        pthread_cond_signal(finished)
        pthread_mutex_unlock(mutex)
      }
    }
  }

  private final class Start {
    let team: Unmanaged<ThreadTeam>
    let thread: Int
    init(team: Unmanaged<ThreadTeam>, thread: Int) {
      self.team = team
      self.thread = thread
    }
  }
}

/// Calls `borrow` with the borrower and the two words of the closure (code, captures), which are valid until it
/// returns. This allocates nothing, whereas `withoutActuallyEscaping` allocates at every call. It relies on how the
/// compiler passes a non-escaping closure; ThreadingTests compares both ways.
@_silgen_name("csystem_lend")
private func lend(
  _ body: (_ block: Int, _ thread: Int) -> Void, to borrower: UnsafeMutableRawPointer,
  _ borrow: @convention(c) (_ borrower: UnsafeMutableRawPointer, _ body: csystem_closure) -> Void)

/// Processors that the launcher bound this process to.
package func boundProcessors() -> [Int] {
  var processors = [Int32](repeating: 0, count: 1024)
  let count = Int(csystem_processors(&processors, 1024))
  return processors.prefix(min(count, 1024)).map(Int.init)
}
