import Foundation

/// What could not be done with a file or folder: which, what was attempted, what was found, what to do. It reads
/// "cannot `attempt` `path`: `found`".
package struct FileError: Error, CustomStringConvertible {
  package let path: String
  package let attempt: String
  package let found: String

  package init(_ path: String, _ attempt: String, _ found: String) {
    self.path = path
    self.attempt = attempt
    self.found = found
  }

  /// With the system's words for `errno`.
  package init(_ path: String, _ attempt: String, code: Int32 = errno) {
    self.init(path, attempt, Self.words(code))
  }

  /// The system's words for an error, and what to do where the disk or a limit of the job is full.
  package static func words(_ code: Int32) -> String {
    let text = String(cString: strerror(code))
    switch code {
    case ENOSPC, EDQUOT: return text + "; free some space or choose another place"
    case EFBIG: return text + "; raise the limit of a file's size (ulimit -f)"
    case EMFILE: return text + "; raise the limit of open files (ulimit -n)"
    default: return text
    }
  }

  package var description: String { "cannot \(attempt) \(path): \(found)" }
}
