import CSystem
import Foundation
import Synchronization

/// What the program says on standard output and standard error.
///
/// Words may be lost: a full disk, a closed terminal or a reader that has gone never ends a run. A command whose
/// purpose is its output asks `check` at its end.
package enum Output {
  /// Milliseconds that a pipe which takes nothing, and does not make its writer wait, is waited for. None after that
  /// was in vain once, until it takes something again: a run does not stand still for a reader that does.
  private static let patience = Atomic<Int32>(1000)

  /// Makes writes to a pipe without a reader, and to files beyond `ulimit -f`, fail instead of ending the program.
  /// Other programs that this one starts have the system's own way.
  package static func prepare() {
    for number in [SIGPIPE, SIGXFSZ] { signal(number) { _ in } }
  }

  /// Writes text as far as it goes.
  package static func say(_ text: String, to descriptor: Int32 = STDOUT_FILENO) {
    // What was printed before comes first.
    if descriptor == STDOUT_FILENO { _ = csystem_flush_output() }
    var text = text
    let good = text.withUTF8 {
      Descriptor.write(
        UnsafeRawBufferPointer($0), to: descriptor, patience: patience.load(ordering: .relaxed))
    }
    patience.store(good ? 1000 : 0, ordering: .relaxed)
  }

  /// Writes a line as far as it goes.
  package static func line(_ text: String, to descriptor: Int32 = STDOUT_FILENO) { say(text + "\n", to: descriptor) }

  /// Whether a line that was shown can be written over: on a terminal, unless it says that it is a plain one.
  package static func isRewritable(_ descriptor: Int32) -> Bool {
    isatty(descriptor) == 1 && ProcessInfo.processInfo.environment["TERM"] != "dumb"
  }

  /// - Throws: `OutputError` where something that was printed is lost.
  package static func check() throws(OutputError) {
    let code = csystem_flush_output()
    if code == 0 { return }
    let found = code < 0 ? "its reader is gone, or its disk is full" : FileError.words(code)
    throw OutputError(found: found)
  }
}

/// Something that was printed is lost.
package struct OutputError: Error, CustomStringConvertible {
  let found: String
  package var description: String { "cannot write to standard output: \(found)" }
}
