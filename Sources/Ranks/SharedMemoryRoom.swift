import Files
import Foundation

/// Whether this node has room for memory that ranks share: MPI libraries put it into a file under /dev/shm, which
/// containers often limit to 64 MiB for all that runs in them.
enum SharedMemoryRoom {
  /// Where Open MPI and MPICH make the file; the user may have told Open MPI of another place.
  static var folder: String {
    let told = ProcessInfo.processInfo.environment["OMPI_MCA_osc_sm_backing_directory"]
    return told ?? (access("/dev/shm", W_OK) == 0 ? "/dev/shm" : NSTemporaryDirectory())
  }

  /// The file holds some control data of the library too, and Open MPI asks for a twentieth more than it needs.
  static func isEnough(for bytes: Int, in folder: String = folder) -> Bool {
    guard let free = FileSystem.freeBytes(at: folder) else { return true }
    return free >= Int64(bytes + bytes / 8 + 1 << 20)
  }
}
