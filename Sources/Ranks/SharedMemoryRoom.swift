import Files
import Foundation

/// Room for the ranks' shared memory on this node. MPI libraries put it into a file under /dev/shm, which containers
/// often limit to 64 MiB.
enum SharedMemoryRoom {
  /// The folder in which Open MPI and MPICH create the file; the user may have set another one for Open MPI.
  static var folder: String {
    let told = ProcessInfo.processInfo.environment["OMPI_MCA_osc_sm_backing_directory"]
    return told ?? (access("/dev/shm", W_OK) == 0 ? "/dev/shm" : NSTemporaryDirectory())
  }

  /// Whether there is room for so many bytes, with a margin: the file also holds control data of the library, and Open
  /// MPI asks for 5 % more than it needs. True if the free space is unknown.
  static func isEnough(for bytes: Int, in folder: String = folder) -> Bool {
    guard let free = FileSystem.freeBytes(at: folder) else { return true }
    return free >= Int64(bytes + bytes / 8 + 1 << 20)
  }
}
