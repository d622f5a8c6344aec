import Files
import Foundation

extension FileError {
  /// With the system's words for `errno`, and what to do where the disk is full or a data set has too many shards.
  static func system(_ path: String, _ attempt: String, _ code: Int32 = errno) -> FileError {
    FileError(path, attempt, String(cString: strerror(code)) + hint(code))
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
}
