import Foundation
import Synchronization

/// A signal asked a long piece of work to stop; it has cleaned up behind itself.
package struct Interrupted: Error, CustomStringConvertible {
  package let signal: Int32

  package var description: String {
    let name = [SIGINT: "Ctrl-C", SIGTERM: "SIGTERM", SIGHUP: "SIGHUP"][signal] ?? "signal \(signal)"
    return "stopped by \(name); nothing half-written was left"
  }
}

/// Turns Ctrl-C, SIGTERM and SIGHUP into a flag that long work looks at, so that it can clean up. A second Ctrl-C ends
/// the process at once.
package enum Interruption {
  private static let caught = Atomic<Int32>(0)

  /// From now on the signals only raise the flag.
  package static func watch() {
    caught.store(0, ordering: .relaxed)  // also sets the flag up before a handler can touch it
    for number in [SIGINT, SIGTERM, SIGHUP] {
      signal(number) { number in
        Interruption.caught.store(number, ordering: .relaxed)
        signal(number, SIG_DFL)
      }
    }
    // A parent that started this process from a thread with blocked signals hands the block down.
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&signals, number) }
    pthread_sigmask(SIG_UNBLOCK, &signals, nil)
    signal(SIGPIPE, SIG_IGN)  // `apus pack | head` must not leave a half-written folder
  }

  /// Throws once a signal has come.
  package static func check() throws(Interrupted) {
    let number = caught.load(ordering: .relaxed)
    if number != 0 { throw Interrupted(signal: number) }
  }
}
