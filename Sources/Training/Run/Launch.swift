import COpenBLAS
import CSystem
import Engine
import Foundation
import Ranks
import Threading

/// Brings a process up: OpenBLAS's kernels, signals, MPI, threads.
package enum Launch {
  /// OpenBLAS reads its kernels and its thread count once, when it is loaded. Where the user has set neither, the choice
  /// is put into the environment and the program starts itself again; before MPI, which does not survive that.
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

  /// - Parameter threads: compute threads of this rank; nil for what the launcher bound.
  /// - Throws: `LaunchError` where more threads are asked for than there are processors for them.
  package static func start(threads: Int?) throws -> Context {
    csystem_flush_lines()
    StopSignal.install()
    let communicator = MPICommunicator()
    csystem_remember_processors()
    let bound = boundProcessors().count
    let online = Int(csystem_online())
    // Unbound ranks share the node's processors.
    let own = max(1, min(bound, bound * communicator.ranksOnNode > online ? online / communicator.ranksOnNode : bound))
    if let threads, threads > bound {
      throw LaunchError(
        "--threads \(threads) on \(MPICommunicator.host), but the launcher bound this rank to \(bound) processor\(bound == 1 ? "" : "s"): "
          + "start with mpirun --map-by slot:PE=\(threads), srun --cpus-per-task=\(threads), or ask for fewer threads")
    }
    if let threads, threads < 1 { throw LaunchError("--threads is \(threads); it must be at least 1") }
    communicator.takeTurns(threads: threads ?? own)
    return Context(threads: threads ?? own, communicator: communicator)
  }

  /// What another build would have that this one has not.
  package static var advice: [String] {
    if csystem_leaves_avx512() == 0 { return [] }
    return [
      "this processor has AVX-512, and this build for \(String(cString: csystem_baseline())) does without: "
        + "'APUS_CPU=native Scripts/build' makes one that 'apus bench' may find faster"
    ]
  }

  /// What the numbers of a run depend on besides recipe and data: where it differs, results are equal within rounding
  /// instead of bit for bit.
  package static func fingerprint(_ context: Context) -> [String: String] {
    [
      "ranks": "\(context.communicator.size)", "processor": String(cString: csystem_processor_name()),
      "baseline": String(cString: csystem_baseline()), "blas": String(cString: copenblas_config()),
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
