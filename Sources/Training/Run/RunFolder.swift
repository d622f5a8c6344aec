import Engine
import Files
import Foundation

/// A run's folder: `recipe.yaml`, `metrics.jsonl`, `facts.json`, `checkpoints/`, `evaluations.json`, `exhibits.json`,
/// `labels/`, `classifiers.json`, `report.html`, `lock`, and `complete` once the run has reached its length.
package struct RunFolder: Sendable {
  package let path: String

  package init(_ path: String) { self.path = path }

  package var recipe: String { path + "/recipe.yaml" }
  package var metrics: String { path + "/metrics.jsonl" }
  package var checkpoints: String { path + "/checkpoints" }
  package var report: String { path + "/report.html" }
  package var facts: String { path + "/facts.json" }
  /// Lists of the images whose labels a stage may see.
  package var labels: String { path + "/labels" }
  package var complete: String { path + "/complete" }
  var lock: String { path + "/lock" }

  /// Names of what a run writes, besides `lock`.
  private static let products = [
    "recipe.yaml", "metrics.jsonl", "facts.json", "checkpoints", "evaluations.json", "exhibits.json", "labels",
    "classifiers.json", "report.html", "complete",
  ]

  package var isComplete: Bool { FileManager.default.fileExists(atPath: complete) }

  /// Whether a run made this folder: it makes these two first.
  private var isRun: Bool { [checkpoints, lock].allSatisfy(Self.isThere) }

  /// Also true of a link that leads nowhere.
  private static func isThere(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
  }

  package func make() throws(RunError) {
    if Self.isThere(checkpoints) { return }
    do {
      try FileManager.default.createDirectory(atPath: checkpoints, withIntermediateDirectories: true)
    } catch {
      throw RunError(
        "cannot make the run folder \(path): \(Self.obstacle(above: checkpoints)); "
          + "give --run a place that can be written to")
    }
  }

  /// Refuses a folder that no run made and where a run would overwrite something.
  /// - Parameter recipe: the resolved recipe; a `recipe.yaml` that says the same stays as it is.
  package func refuseForeignFiles(recipe: String) throws(RunError) {
    if isRun { return }
    for name in Self.products {
      let file = path + "/" + name
      guard Self.isThere(file) else { continue }
      if name == "recipe.yaml", FileManager.default.contents(atPath: file) == Data(recipe.utf8) { continue }
      if let inside = try? FileManager.default.contentsOfDirectory(atPath: file), inside.isEmpty { continue }
      throw RunError(
        "\(file) is there, and no run made this folder: training would overwrite it; nothing was changed: "
          + "give --run a new folder")
    }
  }

  /// Refuses to overwrite a `recipe.yaml` that was edited after the run wrote it.
  /// - Parameter recipes: what may stand there: the resolved recipe and that of the checkpoint.
  package func refuseEditedRecipe(besides recipes: [String]) throws(RunError) {
    guard let found = FileManager.default.contents(atPath: recipe) else { return }
    if recipes.contains(where: { Data($0.utf8) == found }) { return }
    if let facts = RunFacts(folder: self), facts.recipe == RunFacts.checksum(of: found) { return }
    throw RunError(
      "\(recipe) is not what the run wrote: somebody edited it, and training would overwrite it; nothing was "
        + "changed: move it to another folder, and give it as the recipe from there")
  }

  /// Moves everything that a run wrote into a folder inside this one.
  /// - Returns: that folder; nil where there was nothing to move.
  package func setAside() throws(RunError) -> String? {
    let files = FileManager.default
    let present = Self.products.filter { Self.isThere(path + "/" + $0) }
    if present.isEmpty { return nil }
    var number = 1
    while files.fileExists(atPath: path + "/earlier-\(number)") { number += 1 }
    let target = path + "/earlier-\(number)"
    do {
      try files.createDirectory(atPath: target, withIntermediateDirectories: false)
      for name in present { try files.moveItem(atPath: path + "/" + name, toPath: target + "/" + name) }
    } catch {
      throw RunError("cannot move the earlier run in \(path) to \(target): \(error.localizedDescription)")
    }
    return target
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
    let path = folder.lock
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
