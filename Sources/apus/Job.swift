import Engine
import Foundation
import Ranks
import Training

/// A command that may run on several ranks.
enum Job {
  /// Starts MPI, runs `body`, and ends the whole job where it fails.
  /// - Parameters:
  ///   - threads: compute threads of each rank; nil for what the launcher bound.
  ///   - stops: whether `body` heeds signals, as training does.
  static func run(threads: Int?, stops: Bool = false, _ body: (Context) throws -> Void) throws {
    Launch.chooseArithmetic()
    let communicator = Launch.ranks(stops: stops)
    do { try body(try Launch.context(communicator, threads: threads)) } catch { fail(error, communicator) }
    communicator.stop()
  }

  /// What every rank found, the root says alone: the others give it a moment before they speak up.
  private static func fail(_ error: any Error, _ communicator: any Communicator) -> Never {
    if !communicator.isRoot { Thread.sleep(forTimeInterval: 2) }
    communicator.abort("error: \(error)", code: 1)
  }
}
