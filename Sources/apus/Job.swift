import Engine
import Foundation
import Ranks
import Training

/// A command that may run on several ranks.
enum Job {
  /// Starts MPI and runs `body`. Ends the whole job if that fails.
  static func run(threads: Int?, _ body: (Context) throws -> Void) throws {
    Launch.chooseArithmetic()
    let communicator = Launch.ranks()
    do { try body(try Launch.context(communicator, threads: threads)) } catch { fail(error, communicator) }
    communicator.stop()
  }

  /// Ends the job with an error. The other ranks wait before they report it, so that an error of all ranks is printed
  /// by the root alone.
  private static func fail(_ error: any Error, _ communicator: any Communicator) -> Never {
    if !communicator.isRoot { Thread.sleep(forTimeInterval: 2) }
    communicator.abort("error: \(error)", code: 1)
  }
}
