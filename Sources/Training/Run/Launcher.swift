import Foundation

/// What a launcher (`mpirun`, `srun`) told a process about its job, before and beside MPI.
package struct Launcher: Equatable {
  /// The variable that says how many processes were started, such as `PMI_SIZE`.
  package let variable: String
  package let processes: Int
  /// This process among them, where that is told.
  package let process: Int?

  /// Variables that only a process has that a launcher started. `SLURM_NTASKS` is none: a shell of `sbatch` or `salloc`
  /// has it too, where a command runs once. `SLURM_STEP_NUM_TASKS` counts the tasks of the step that a process belongs
  /// to, and is 1, or missing, in such a shell.
  private static let variables = [
    (size: "OMPI_COMM_WORLD_SIZE", rank: "OMPI_COMM_WORLD_RANK"), (size: "PMI_SIZE", rank: "PMI_RANK"),
    (size: "MPI_LOCALNRANKS", rank: "MPI_LOCALRANKID"), (size: "SLURM_STEP_NUM_TASKS", rank: "SLURM_PROCID"),
  ]

  /// The launcher that started more than one process; nil where none did.
  package init?(_ environment: [String: String]) {
    for (size, rank) in Self.variables {
      guard let processes = environment[size].flatMap({ Int($0) }), processes > 1 else { continue }
      variable = size
      self.processes = processes
      process = environment[rank].flatMap { Int($0) }
      return
    }
    return nil
  }

  /// Why a process that MPI takes for the only one must not go on: each of them would train alone.
  /// - Parameter library: this program's MPI and its version.
  package func refusal(library: String) -> String {
    let isOpenMPI = library.contains("Open MPI")
    let advice =
      switch variable {
      case "SLURM_STEP_NUM_TASKS", "PMI_SIZE":
        isOpenMPI
          ? "start with srun --mpi=pmix (srun --mpi=list shows what there is), or with Open MPI's own mpirun"
          : "start with srun --mpi=pmi2 (srun --mpi=list shows what there is), or with the mpirun of that MPI"
      default: "start with the mpirun of that MPI, or build apus anew with the other one loaded"
      }
    return "the launcher started \(processes) processes (\(variable)), but to \(library) each is alone: "
      + "they do not speak the same protocol; \(advice). For runs that are meant to be apart: env -u \(variable)"
  }
}
