import Foundation
import HDF5

/// Why a data set cannot be read or written: which path, what was attempted, what was found, what to do.
package struct ShardError: Error, CustomStringConvertible {
  package let path: String
  package let attempt: String
  package let found: String

  package init(_ path: String, _ attempt: String, _ found: String) {
    self.path = path
    self.attempt = attempt
    self.found = found
  }

  init(_ error: HDF5Error) { self.init(error.path, error.attempt, error.found) }

  /// With the system's words for `errno`.
  static func system(_ path: String, _ attempt: String, _ code: Int32 = errno) -> ShardError {
    ShardError(path, attempt, String(cString: strerror(code)) + hint(code))
  }

  private static func hint(_ code: Int32) -> String {
    switch code {
    case ENOSPC, EDQUOT: return "; free some space or choose another place"
    case EMFILE:
      var limit = rlimit()
      getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      return "; this process may have \(limit.rlim_cur) files open, and a data set needs one for each shard: "
        + "raise the limit (`ulimit -n`), or make fewer shards (`apus shard`)"
    default: return ""
    }
  }

  package var description: String { "cannot \(attempt) \(path): \(found)" }
}

/// Turns the HDF5 module's errors into this module's.
func shardErrors<T>(_ body: () throws(HDF5Error) -> T) throws(ShardError) -> T {
  do { return try body() } catch { throw ShardError(error) }
}

/// Why an image cannot be decoded.
package struct ImageError: Error, CustomStringConvertible, Equatable {
  package let reason: String

  package init(_ reason: String) { self.reason = reason }

  package var description: String { reason }
}
