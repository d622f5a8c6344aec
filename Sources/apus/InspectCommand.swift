import ArgumentParser
import Files
import Foundation
import Shards
import Threading
import Training

struct InspectCommand: PrintsResults {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Show what a path is: a data set or one of its shards, a run or one of its checkpoints.")

  @Argument(help: "What to look at.") var path: String
  @Flag(help: "Recompute every checksum and decode every image; the exit status is 1 where anything is damaged.")
  var verify = false
  @Option(help: "Threads that verify (default: those that this process may use).") var threads: Int?

  /// A kind of file or folder that can be inspected: how it is recognised, and how it is shown. The first match is
  /// used.
  private struct Kind: Sendable {
    let name: String
    let fits: @Sendable (String) -> Bool
    let show: @Sendable (InspectCommand) throws -> Void
  }

  private static let kinds = [
    Kind(name: "a shard", fits: { isFile($0) && $0.hasSuffix(".h5") }, show: { try $0.showShard() }),
    Kind(name: "a data set", fits: { isFile($0 + "/shard-00000.h5") }, show: { try $0.showDataSet() }),
    Kind(name: "a split data set", fits: { isFile($0 + "/train/shard-00000.h5") }, show: { try $0.showSplit() }),
    Kind(name: "a checkpoint", fits: { isFile($0 + "/manifest.json") }, show: { try $0.showCheckpoint() }),
    Kind(name: "a run", fits: { isFile($0 + "/recipe.yaml") }, show: { try $0.showRun() }),
  ]

  func validate() throws {
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads is \(threads); it must be 1 to 1024")
    }
  }

  func run() throws {
    guard let kind = Self.kinds.first(where: { $0.fits(path) }) else {
      let known = Self.kinds.map(\.name).joined(separator: ", ")
      let there = FileManager.default.fileExists(atPath: path)
      throw FileError(path, "inspect", there ? "it is none of: \(known)" : "No such file or directory")
    }
    try interruptible { try kind.show(self) }
  }

  private static func isFile(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
  }

  // MARK: Data sets

  private func showShard() throws { try show(try DataSet(shard: path)) }

  private func showDataSet() throws { try show(try DataSet(at: path)) }

  private func showSplit() throws {
    let sets = try ["/train", "/test"].map { try DataSet(at: path + $0) }
    for set in sets { print(describe(set) + "\n") }
    if verify {
      let damages = try sets.map(damages)
      if damages.contains(where: { $0 > 0 }) { throw ExitCode.failure }
    }
  }

  private func show(_ set: DataSet) throws {
    print(describe(set))
    if verify, try damages(set) > 0 { throw ExitCode.failure }
  }

  private func damages(_ set: DataSet) throws -> Int {
    let line = ProgressLine("verifying")
    let verifier = Verifier(set, threads: threads ?? max(1, boundProcessors().count))
    let damages = try verifier.verify {
      line.show(done: $0.done, total: $0.total, note: "\(byteText($0.bytes)), \($0.rejected) damaged")
    }
    for damage in damages { print("damaged: image \(damage.sample) (\(damage.key)): \(damage.reason)") }
    print(
      damages.isEmpty
        ? "verified \(set.count) images of \(set.path): all checksums match, all images decode"
        : "\(damages.count) of \(set.count) images of \(set.path) are damaged; copy the shard again or pack again")
    return damages.count
  }

  // MARK: Runs

  private func showCheckpoint() throws {
    let manifest = try Checkpoint.verify(path)
    print(
      "checkpoint after step \(manifest.step), stage \(manifest.stage), of a run on \(manifest.data) "
        + "(\(manifest.images) images)")
    for (key, value) in manifest.fingerprint.sorted(by: { $0.key < $1.key }) { print("  \(key): \(value)") }
    print("array, shape, checksum, norm")
    for array in try Checkpoint.arrays(path) {
      let pieces = array.slices.map { "  in \($0) slice\($0 == 1 ? "" : "s")" } ?? ""
      print("  \(array.name)  \(array.shape)  \(String(array.crc32, radix: 16))  \(array.norm)\(pieces)")
    }
  }

  private func showRun() throws {
    let folder = RunFolder(path)
    let steps = try Checkpoint.list(folder).map(String.init).joined(separator: ", ")
    print("run \(path): \(folder.isComplete ? "complete" : "not complete"), checkpoints after steps \(steps)")
    if let last = try MetricsFile.last(folder.metrics, where: { $0["loss"] != nil }) {
      print("last metrics: \(last.json)")
    }
    for record in try RunFiles.evaluations(of: path) {
      print(record.heading)
      for result in record.results {
        print("  \(result.title) (\(result.identifier)) on \(result.features): \(result.main.name) \(result.main.text)")
      }
    }
    guard verify else { return }
    let (newest, damaged) = try Checkpoint.newest(folder)
    for reason in damaged { print("damaged: \(reason)") }
    print(newest.map { "the checkpoint after step \($0.step) is whole" } ?? "there is no whole checkpoint")
    if !damaged.isEmpty || newest == nil { throw ExitCode.failure }
  }
}
