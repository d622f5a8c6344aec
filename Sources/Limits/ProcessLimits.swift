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

  /// Lets this process open as many files as its hard limit allows: a data set has a file a shard. Not more than
  /// 65,536, for some libraries walk over all that could be open.
  package static func raiseOpenFiles() {
    var limit = rlimit()
    guard getrlimit(Int32(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    let wanted = min(limit.rlim_max, 1 << 16)
    guard limit.rlim_cur < wanted else { return }
    limit.rlim_cur = wanted
    setrlimit(Int32(RLIMIT_NOFILE.rawValue), &limit)
  }
}
