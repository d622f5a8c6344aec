import COpenBLAS
import CSystem
import Engine
import Foundation
import Limits
import Ranks
import Threading

/// Brings a process up: OpenBLAS's kernels, signals, MPI, threads.
///
/// The order matters: OpenBLAS reads its variables when it is loaded, MPI keeps signal handlers that stand before it
/// starts, and binds the process, which says how many threads there are.
package enum Launch {
  /// OpenBLAS reads its kernels and its thread count once, when it is loaded. Where the user has set neither, the
  /// choice is put into the environment and the program starts itself again; before MPI, which does not survive that.
  package static func chooseArithmetic() {
    let environment = ProcessInfo.processInfo.environment
    guard environment["APUS_STARTED"] == nil else { return }
    setenv("APUS_STARTED", "1", 1)
    var isNew = false
    if environment["OPENBLAS_NUM_THREADS"] == nil {
      setenv("OPENBLAS_NUM_THREADS", "1", 1)
      isNew = true
    }
    if environment["OPENBLAS_CORETYPE"] == nil, let core = csystem_blas_core() {
      setenv("OPENBLAS_CORETYPE", core, 1)
      isNew = true
    }
    // Where this fails, the program goes on with OpenBLAS's own choice.
    if isNew { execv("/proc/self/exe", CommandLine.unsafeArgv) }
  }

  /// Starts MPI. What can fail comes in `context`, so that a failure can be said by the rank that meets it.
  /// - Parameter stops: whether the work itself asks about signals and then stops in good order; else they end the
  ///   process.
  package static func ranks(stops: Bool) -> MPICommunicator {
    csystem_flush_lines()
    if stops { StopSignal.install() }
    // Open MPI would start a helper beside a process without a launcher, for processes that it may start later, and
    // fails where that finds no ssh. There are none. Other libraries and versions do not know the variable.
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0)
    return MPICommunicator()
  }

  /// - Parameter threads: compute threads of this rank; nil for what the launcher bound.
  /// - Throws: `LaunchError` where more threads are asked for than there are processors for them, where the system does
  ///   not give so many, or where a launcher started more processes than MPI knows of.
  package static func context(_ communicator: MPICommunicator, threads: Int?) throws -> Context {
    try chooseKernels()
    try checkLauncher(communicator)
    csystem_remember_processors()
    let count = try threadCount(communicator, asked: threads)
    try checkThreads(count)
    try checkAddresses(threads: count)
    communicator.takeTurns(threads: count)
    return Context(threads: count, communicator: communicator)
  }

  /// The micro-kernels that `APUS_KERNELS` names, else the default ones.
  private static func chooseKernels() throws(LaunchError) {
    let name = ProcessInfo.processInfo.environment["APUS_KERNELS"]
    if MicroKernels.choose(name) { return }
    let known = MicroKernels.all.filter { $0.isSupported() }.map(\.name).joined(separator: ", ")
    throw LaunchError("APUS_KERNELS is \(name ?? ""); this processor can run \(known)")
  }

  private static func checkLauncher(_ communicator: MPICommunicator) throws(LaunchError) {
    guard communicator.size == 1, let launcher = Launcher(ProcessInfo.processInfo.environment) else { return }
    // One of them is enough to say it.
    if let process = launcher.process, process > 0 { exit(1) }
    throw LaunchError(launcher.refusal(library: MPICommunicator.library))
  }

  private static func threadCount(_ communicator: MPICommunicator, asked: Int?) throws(LaunchError) -> Int {
    let bound = boundProcessors().count
    let online = Int(csystem_online())
    let ranks = communicator.ranksOnNode
    guard let asked else {
      // Unbound ranks share the node's processors.
      return max(1, bound * ranks > online ? min(bound, online / ranks) : bound)
    }
    if asked < 1 { throw LaunchError("--threads is \(asked); it must be at least 1") }
    if asked > bound {
      let processors = bound == 1 ? "1 processor" : "\(bound) processors"
      throw LaunchError(
        "--threads \(asked) on \(communicator.host), but the launcher bound this rank to \(processors): "
          + "start with mpirun --map-by slot:PE=\(asked), srun --cpus-per-task=\(asked), or ask for fewer threads")
    }
    return asked
  }

  /// OpenBLAS maps a buffer of 128 MiB for every thread that multiplies, and where it gets none it tries for ever.
  package static let bytesOfThread: Int64 = 128 << 20

  private static func checkAddresses(threads: Int) throws(LaunchError) {
    let needed = Int64(threads) * bytesOfThread + 128 << 20
    guard let room = MemoryRoom.ofProcess(), room.bytes < 2 * needed else { return }
    let who = threads == 1 ? "1 compute thread needs" : "\(threads) compute threads need"
    throw LaunchError(
      "\(room.bytes >> 20) MiB are free\(room.bound), and \(who) \(2 * needed >> 20) to start: "
        + "\(room.advice)or ask for fewer threads")
  }

  /// Threads besides those that compute: of the loader, of turns, of MPI.
  private static let otherThreads = 4

  private static func checkThreads(_ count: Int) throws(LaunchError) {
    guard let code = ThreadTeam.failure(startingThreads: count + otherThreads) else { return }
    let limit =
      ProcessLimits.current.processes.map { "ulimit -u is \($0)" } ?? "a control group may limit them (pids.max)"
    let threads = count == 1 ? "1 compute thread" : "\(count) compute threads"
    throw LaunchError(
      "cannot start \(threads) and \(otherThreads) others: \(String(cString: strerror(code))); \(limit): "
        + "raise it, or ask for fewer threads or fewer ranks on a node")
  }

  /// What another build would have that this one has not.
  package static var advice: [String] {
    if csystem_leaves_avx512() == 0 { return [] }
    return [
      "this processor has AVX-512, and this build for \(String(cString: csystem_baseline())) uses it in products "
        + "alone: 'APUS_CPU=native Scripts/build' makes one that 'apus bench' may find faster"
    ]
  }

  /// The instruction set that is compiled for, and the micro-kernels where they are not the default.
  private static var baseline: String {
    let baseline = String(cString: csystem_baseline())
    let kernels = MicroKernels.current.name
    return kernels == MicroKernels.best.name ? baseline : "\(baseline) with \(kernels) kernels"
  }

  /// What the numbers of a run depend on besides recipe and data: where it differs, results are equal within rounding
  /// instead of bit for bit.
  package static func fingerprint(_ context: Context) -> [String: String] {
    [
      "ranks": "\(context.communicator.size)", "processor": String(cString: csystem_processor_name()),
      "baseline": baseline, "blas": String(cString: copenblas_config()),
      "kernels": String(cString: copenblas_core()), "mpi": MPICommunicator.library,
      "convolution": context.convolution.rawValue,
    ]
  }
}

/// A process that cannot start as asked.
package struct LaunchError: Error, CustomStringConvertible {
  package let description: String
  package init(_ description: String) { self.description = description }
}

/// Peak resident memory of this process, bytes.
package func peakResident() -> Int64 { csystem_peak_resident() }
