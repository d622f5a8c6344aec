import Foundation

/// What the shell or the batch system lets this process have (`ulimit`); nil where nothing is limited.
package struct ProcessLimits: Equatable {
  /// Bytes of addresses, and of those with private memory behind them.
  package var addressSpace: Int64?
  package var data: Int64?
  /// Bytes of a file that is written.
  package var fileSize: Int64?
  /// Files that are open at the same time.
  package var openFiles: Int64?
  /// Processes and threads of this user.
  package var processes: Int64?

  package init(
    addressSpace: Int64? = nil, data: Int64? = nil, fileSize: Int64? = nil, openFiles: Int64? = nil,
    processes: Int64? = nil
  ) {
    self.addressSpace = addressSpace
    self.data = data
    self.fileSize = fileSize
    self.openFiles = openFiles
    self.processes = processes
  }

  package static var current: ProcessLimits {
    ProcessLimits(
      addressSpace: soft(RLIMIT_AS), data: soft(RLIMIT_DATA), fileSize: soft(RLIMIT_FSIZE),
      openFiles: soft(RLIMIT_NOFILE), processes: soft(__RLIMIT_NPROC))
  }

  private static func soft(_ resource: __rlimit_resource) -> Int64? {
    var limit = rlimit()
    guard getrlimit(Int32(resource.rawValue), &limit) == 0, limit.rlim_cur < 1 << 62 else { return nil }
    return Int64(limit.rlim_cur)
  }

  /// Raises the soft limit of open files to a number and some more, or to the hard limit where that is lower.
  package static func raiseOpenFiles(to count: Int) {
    var limit = rlimit()
    guard getrlimit(Int32(RLIMIT_NOFILE.rawValue), &limit) == 0, limit.rlim_cur < rlim_t(count) else { return }
    limit.rlim_cur = min(limit.rlim_max, rlim_t(count) + 1024)
    setrlimit(Int32(RLIMIT_NOFILE.rawValue), &limit)
  }
}
