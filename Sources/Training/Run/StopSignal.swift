import Foundation
import Synchronization

/// Signals that ask for a checkpoint and an early end. They may reach one rank only; the trainer makes all ranks agree.
package enum StopSignal {
  private static let received = Atomic<Int32>(0)

  /// Handlers for TERM, USR1, HUP and INT; to be called before MPI starts, which keeps handlers that stand already. A
  /// second INT ends the process at once.
  package static func install() {
    received.store(0, ordering: .relaxed)  // also sets the flag up before a handler can touch it
    var numbers = [SIGTERM, SIGUSR1, SIGINT]
    // Under `nohup` a run goes on when its terminal is closed.
    if !isIgnored(SIGHUP) { numbers.append(SIGHUP) }
    for number in numbers {
      var action = sigaction()
      action.__sigaction_handler.sa_handler = { number in StopSignal.note(number) }
      // Reads and writes that were under way go on.
      action.sa_flags = SA_RESTART | (number == SIGINT ? Int32(bitPattern: UInt32(SA_RESETHAND)) : 0)
      sigaction(number, &action, nil)
    }
    // A parent that started this process from a thread with blocked signals hands the block down.
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in numbers { sigaddset(&signals, number) }
    pthread_sigmask(SIG_UNBLOCK, &signals, nil)
  }

  private static func isIgnored(_ number: Int32) -> Bool {
    var action = sigaction()
    sigaction(number, nil, &action)
    return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
  }

  private static func note(_ number: Int32) { received.store(number, ordering: .relaxed) }

  /// The signal that has come to this process, if any.
  package static var number: Int32? {
    let value = received.load(ordering: .relaxed)
    return value == 0 ? nil : value
  }
}
