import Files
import Foundation

extension FileError {
  /// With the system's words for `errno`, and what to do where a data set has too many shards for the limit of open
  /// files.
  static func system(_ path: String, _ attempt: String, _ code: Int32 = errno) -> FileError {
    guard code == EMFILE else { return FileError(path, attempt, code: code) }
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    return FileError(
      path, attempt,
      String(cString: strerror(code)) + "; this process may have \(limit.rlim_cur) files open, and a data set needs "
        + "one for each shard: raise the limit (`ulimit -n`), or make fewer shards (`apus shard`)")
  }
}
