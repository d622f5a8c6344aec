import CZlib
import Engine
import Files
import Foundation
import HDF5
import Ranks

/// A checkpoint is a folder `step-00000123`: state that every rank has in `state.h5`, state that is spread over ranks
/// in a file of each rank, and `manifest.json` with checksums, written last. It is written aside, flushed to disk and
/// renamed, so a folder of that name is whole. Any number of ranks can read it.
package enum Checkpoint {
  static let stateFile = "state.h5", manifestFile = "manifest.json"

  static func sliceFile(_ rank: Int) -> String { "slices-" + padded(rank, to: 5) + ".h5" }

  static let prefix = "step-"
  /// Of a checkpoint that was found damaged and passed over.
  static let damagedPrefix = "damaged-step-"

  package static func name(step: Int) -> String { prefix + padded(step, to: 8) }
  static func damagedName(step: Int) -> String { damagedPrefix + padded(step, to: 8) }

  private static func padded(_ number: Int, to digits: Int) -> String {
    String(repeating: "0", count: max(0, digits - "\(number)".count)) + "\(number)"
  }

  /// Writes a checkpoint and removes what is no longer needed: of the same stage all but the newest `keep`, of each
  /// earlier stage all but the last. The best of each stage stays. All ranks make this call: the root writes what they
  /// all have, and each rank writes its own rows of the rest.
  /// - Throws: `RunError` on every rank, whichever of them failed; earlier checkpoints are as they were.
  package static func write(
    _ state: [SavedState], _ manifest: Manifest, in folder: RunFolder, keep: Int,
    _ communicator: any Communicator = SingleProcess()
  ) throws {
    let target = folder.checkpoints + "/" + name(step: manifest.step)
    let aside = folder.checkpoints + "/.\(name(step: manifest.step)).partial"
    let files = FileManager.default
    let spread = state.filter { $0.rows != nil }
    var manifest = manifest
    manifest.files = []
    do {
      try communicator.onRoot {
        try? files.removeItem(atPath: aside)
        try files.createDirectory(atPath: aside, withIntermediateDirectories: true)
        manifest.files.append(try write(state.filter { $0.rows == nil }, as: stateFile, in: aside))
      }
      if !spread.isEmpty { manifest.files += try writeSlices(spread, in: aside, communicator) }
      try communicator.onRoot { try seal(aside, as: target, manifest, in: folder) }
    } catch {
      if communicator.isRoot { try? files.removeItem(atPath: aside) }
      let free = FileSystem.freeBytes(at: folder.checkpoints).map { ", \($0 >> 20) MiB are free" } ?? ""
      throw RunError(
        "cannot write checkpoint \(target)\(free): \(error); earlier checkpoints are whole: make room and start again")
    }
    if communicator.isRoot { prune(folder, after: manifest, keep: keep) }
  }

  /// Writes the manifest and gives the folder its name.
  private static func seal(_ aside: String, as target: String, _ manifest: Manifest, in folder: RunFolder) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    try encoder.encode(manifest).write(to: URL(fileURLWithPath: aside + "/" + manifestFile))
    try FileSystem.flush(aside + "/" + manifestFile)
    try FileSystem.flush(aside)
    // A checkpoint of the same step holds the same state, or was found damaged.
    try? FileManager.default.removeItem(atPath: target)
    guard rename(aside, target) == 0 else { throw RunError(String(cString: strerror(errno))) }
    try FileSystem.flush(folder.checkpoints)
  }

  /// Each rank's rows, in a file of its own.
  /// - Returns: the files of all ranks.
  private static func writeSlices(_ state: [SavedState], in folder: String, _ communicator: any Communicator) throws
    -> [Manifest.File]
  {
    var mine: [UInt8] = []
    try communicator.onEvery {
      if !communicator.isRoot { waitUntilVisible(folder) }
      var file = try write(state, as: sliceFile(communicator.rank), in: folder)
      file.slices = state.map {
        Manifest.Slice(name: $0.name, shape: $0.shape, first: $0.rows!.lowerBound, count: $0.rows!.count)
      }
      mine = Array(try JSONEncoder().encode(file))
    }
    return try communicator.gather(mine).map { try JSONDecoder().decode(Manifest.File.self, from: Data($0)) }
  }

  /// A client of NFS may remember for a while that a folder was not there, although another one has made it.
  package static func waitUntilVisible(_ folder: String) {
    let parent = (folder as NSString).deletingLastPathComponent
    for _ in 0..<900 where access(folder, F_OK) != 0 {
      // Listing the parent makes the client ask the server again.
      if let listing = opendir(parent) { closedir(listing) }
      Thread.sleep(forTimeInterval: 0.1)
    }
  }

  /// Writes arrays, or what of their rows is here, and waits until they are on disk.
  private static func write(_ state: [SavedState], as name: String, in folder: String) throws -> Manifest.File {
    let path = folder + "/" + name
    try write(state, to: path)
    try FileSystem.flush(path)
    return try summary(of: path)
  }

  private static func write(_ state: [SavedState], to path: String) throws {
    let file = try HDF5File.create(path)
    do {
      for array in state {
        switch array.values {
        case .floats(let values): try file.write(UnsafeBufferPointer(values), shape: array.localShape, to: array.name)
        case .integers(let values): try file.write(UnsafeBufferPointer(values), shape: array.localShape, to: array.name)
        }
      }
    } catch {
      try? file.close()
      throw error
    }
    try file.close()
  }

  /// Size and checksum of a file.
  static func summary(of path: String) throws(CheckpointFault) -> Manifest.File {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw fault(path, errno) }
    defer { close(descriptor) }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 22, alignment: 64)
    defer { buffer.deallocate() }
    var crc: UInt32 = 0
    var bytes = 0
    while true {
      let count = Foundation.read(descriptor, buffer.baseAddress, buffer.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw fault(path, errno) }
      if count == 0 { break }
      crc = czlib_crc32(crc, buffer.baseAddress, count)
      bytes += count
    }
    return Manifest.File(name: (path as NSString).lastPathComponent, bytes: bytes, crc32: crc)
  }

  /// What an error of the system makes of a checkpoint: a file that is not there was lost, any other may be whole.
  static func fault(_ path: String, _ code: Int32) -> CheckpointFault {
    let reason = "\(path): \(String(cString: strerror(code)))"
    return code == ENOENT ? .damaged(reason) : .unreadable("cannot read \(reason)")
  }

  // MARK: Removing

  /// Removes checkpoints that are no longer needed. Those that cannot be read stay.
  private static func prune(_ folder: RunFolder, after manifest: Manifest, keep: Int) {
    let files = FileManager.default
    let steps = ((try? list(folder)) ?? []).filter { $0 <= manifest.step }
    var byStage: [Int: [Manifest]] = [:]
    for step in steps {
      guard let found = try? readManifest(folder.checkpoints + "/" + name(step: step)) else { continue }
      byStage[found.stage, default: []].append(found)
    }
    for (stage, manifests) in byStage {
      let best = best(of: manifests)?.step
      for old in manifests.dropLast(stage == manifest.stage ? keep : 1) where old.step != best {
        try? files.removeItem(atPath: folder.checkpoints + "/" + name(step: old.step))
      }
    }
    // The run is past what was damaged.
    for step in (try? list(folder, prefix: damagedPrefix)) ?? [] where step <= manifest.step {
      try? files.removeItem(atPath: folder.checkpoints + "/" + damagedName(step: step))
    }
  }

  /// Renames the checkpoints after a step, which were found damaged, so that they are not looked at again.
  static func setDamagedAside(_ folder: RunFolder, after step: Int) throws {
    for damaged in try list(folder) where damaged > step {
      let target = folder.checkpoints + "/" + damagedName(step: damaged)
      try? FileManager.default.removeItem(atPath: target)
      let source = folder.checkpoints + "/" + name(step: damaged)
      guard rename(source, target) == 0 else {
        throw RunError("cannot rename the damaged checkpoint \(source): \(String(cString: strerror(errno)))")
      }
    }
  }
}
