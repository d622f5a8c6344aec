import Engine
import Files
import Foundation

/// A run's folder: `recipe.yaml`, `metrics.jsonl`, `checkpoints/`, `evaluations.json`, `report.html`, and `complete` once
/// the run has reached its length.
package struct RunFolder: Sendable {
  package let path: String

  package init(_ path: String) { self.path = path }

  package var recipe: String { path + "/recipe.yaml" }
  package var metrics: String { path + "/metrics.jsonl" }
  package var checkpoints: String { path + "/checkpoints" }
  package var report: String { path + "/report.html" }
  package var facts: String { path + "/facts.json" }
  package var complete: String { path + "/complete" }

  package var isComplete: Bool { FileManager.default.fileExists(atPath: complete) }
  package var exists: Bool { FileManager.default.fileExists(atPath: checkpoints) }

  package func make() throws(RunError) {
    do {
      try FileManager.default.createDirectory(atPath: checkpoints, withIntermediateDirectories: true)
    } catch {
      throw RunError(
        "cannot make the run folder \(path): \(Self.obstacle(above: checkpoints)); give --run a place that can be written to"
      )
    }
  }

  /// Why a folder cannot be made, in words; Foundation only has a number for it.
  private static func obstacle(above path: String) -> String {
    let existing = FileSystem.nearest(above: path)
    var status = stat()
    if stat(existing, &status) == 0, status.st_mode & S_IFMT != S_IFDIR { return "\(existing) is a file" }
    if access(existing, W_OK) != 0 { return "\(existing): \(String(cString: strerror(errno)))" }
    return "it cannot be made in \(existing)"
  }

  /// Writes a small file whole or not at all.
  package static func write(_ text: String, to path: String) throws(RunError) {
    do { try AtomicFile.write(text, to: path) } catch { throw RunError(error.description) }
  }
}

/// What stops a run: what was attempted, what was found, what to do.
package struct RunError: Error, CustomStringConvertible {
  package let description: String
  package init(_ description: String) { self.description = description }
}

/// Keeps a second job out of a run's folder for as long as it lives: what a killed launcher left behind must not write
/// beside its successor.
final class RunLock {
  private let descriptor: Int32

  /// Waits a while for the job before to end.
  init(_ folder: RunFolder, patience: Double = 20) throws(RunError) {
    let path = folder.path + "/lock"
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw RunError("cannot write \(path): \(String(cString: strerror(errno)))") }
    let start = ContinuousClock.now
    while lockf(descriptor, F_TLOCK, 0) != 0 {
      // A file system without locks has none to offer: then nobody can be kept out.
      guard errno == EAGAIN || errno == EACCES else { return }
      guard (ContinuousClock.now - start).seconds < patience else {
        throw RunError("another job is training in \(folder.path): end it, wait for it, or give another --run")
      }
      Thread.sleep(forTimeInterval: 0.2)
    }
  }

  deinit { close(descriptor) }
}
