import Engine
import Foundation
import HDF5
import Ranks

/// Finding a checkpoint, checking it, and reading from it.
extension Checkpoint {
  /// Steps of the checkpoints in a run, ascending. None of them need be whole.
  /// - Throws: `RunError` where the folder is there and cannot be read.
  package static func list(_ folder: RunFolder) throws(RunError) -> [Int] { try list(folder, prefix: prefix) }

  static func list(_ folder: RunFolder, prefix: String) throws(RunError) -> [Int] {
    func refusal(_ code: Int32) -> RunError {
      RunError(
        "cannot read the checkpoints in \(folder.checkpoints): \(String(cString: strerror(code))); "
          + "make the folder readable, and start again")
    }
    guard let directory = opendir(folder.checkpoints) else {
      if errno == ENOENT { return [] }
      if errno == ENOTDIR {
        throw RunError(
          "\(folder.path) is a file, and a run is a folder: name the run, or let a recipe take the file: "
            + "start: {from: file PATH}")
      }
      throw refusal(errno)
    }
    defer { closedir(directory) }
    var steps: [Int] = []
    while true {
      errno = 0
      guard let entry = readdir(directory) else { break }
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name.hasPrefix(prefix), let step = Int(name.dropFirst(prefix.count)), step >= 0 { steps.append(step) }
    }
    guard errno == 0 else { throw refusal(errno) }
    return steps.sorted()
  }

  /// The newest whole checkpoint, and what is wrong with those after it. All ranks make this call and get the same: the
  /// root lists and reads the manifests, and the ranks share the checksums.
  /// - Parameters:
  ///   - stage: takes the newest of this stage; nil for the newest of all.
  ///   - replicatedOnly: does not check what is spread over ranks, for a caller that does not read it.
  /// - Returns: no manifest where there is no checkpoint, or none of the stage.
  /// - Throws: `RunError` where there are checkpoints and none of them is whole, or where one cannot be read.
  package static func newest(
    _ folder: RunFolder, _ communicator: any Communicator = SingleProcess(), stage: Int? = nil,
    replicatedOnly: Bool = false
  ) throws -> (manifest: Manifest?, damaged: [String]) {
    let steps = try communicator.fromRoot { try list(folder).map(String.init).joined(separator: " ") }
    var damaged: [String] = []
    for step in steps.split(separator: " ").compactMap({ Int($0) }).reversed() {
      do {
        let path = folder.checkpoints + "/" + name(step: step)
        let manifest = try readManifest(path, communicator)
        if let stage, manifest.stage != stage { continue }
        try verify(manifest, path, communicator, replicatedOnly: replicatedOnly)
        return (manifest, damaged)
      } catch CheckpointFault.damaged(let reason) {
        damaged.append(reason)
      } catch {
        throw RunError(
          "\(error); nothing was changed: make it readable, or move it out of \(folder.checkpoints) "
            + "to go on from the checkpoint before it")
      }
    }
    guard damaged.isEmpty else {
      throw RunError(
        "none of the checkpoints in \(folder.checkpoints) is whole: \(damaged.joined(separator: "; ")). Nothing was "
          + "changed: copy one back, give another --run, or train from the start with pretrain --restart, "
          + "which sets aside what is there")
    }
    return (nil, [])
  }

  /// The manifest with the highest accuracy on the images for validation, of equal ones the earliest; nil where none
  /// was measured.
  static func best(of manifests: [Manifest]) -> Manifest? {
    manifests.sorted { $0.step < $1.step }.reduce(nil) { best, next in
      guard let value = next.validation else { return best }
      return value > best?.validation ?? -1 ? next : best
    }
  }

  /// The manifests of a run's checkpoints that can be read, by step; nothing else of them is looked at. Read by one
  /// process for itself.
  static func manifests(_ folder: RunFolder) throws -> [Manifest] {
    try list(folder).compactMap { try? readManifest(folder.checkpoints + "/" + name(step: $0)) }
  }

  /// The manifest of the best checkpoint of a stage by validation, whose files may be damaged. All ranks make this call
  /// and get the same.
  /// - Returns: nil where nothing was validated.
  static func best(
    _ folder: RunFolder, stage: Int, _ communicator: any Communicator = SingleProcess()
  ) throws -> Manifest? {
    let step = try communicator.fromRoot {
      best(of: try manifests(folder).filter { $0.stage == stage }).map { "\($0.step)" } ?? ""
    }
    guard let step = Int(step) else { return nil }
    return try readManifest(folder.checkpoints + "/" + name(step: step), communicator)
  }

  /// What a stage of a run came to: its best checkpoint by validation, else its newest. A damaged best one is passed
  /// over, and the newest taken.
  /// - Parameter stage: nil for that of the newest checkpoint.
  static func result(
    _ folder: RunFolder, stage: Int? = nil, _ communicator: any Communicator = SingleProcess()
  ) throws -> (manifest: Manifest?, damaged: [String]) {
    let (newest, damaged) = try newest(folder, communicator, stage: stage, replicatedOnly: true)
    guard let newest, let best = try best(folder, stage: newest.stage, communicator) else { return (newest, damaged) }
    do {
      try verify(best, folder.checkpoints + "/" + name(step: best.step), communicator, replicatedOnly: true)
      return (best, damaged)
    } catch CheckpointFault.damaged(let reason) {
      return (
        newest, damaged + ["\(reason); it was the best by validation, taken is the newest, of step \(newest.step)"]
      )
    }
  }

  /// Reads a manifest and checks every file against it, the ranks sharing the files.
  /// - Throws: `CheckpointFault`, the same on every rank.
  package static func verify(
    _ path: String, _ communicator: any Communicator = SingleProcess(), replicatedOnly: Bool = false
  ) throws(CheckpointFault) -> Manifest {
    let manifest = try readManifest(path, communicator)
    try verify(manifest, path, communicator, replicatedOnly: replicatedOnly)
    return manifest
  }

  private static func verify(
    _ manifest: Manifest, _ path: String, _ communicator: any Communicator, replicatedOnly: Bool
  ) throws(CheckpointFault) {
    let files = manifest.files.filter { !replicatedOnly || $0.slices == nil }
    var fault: CheckpointFault?
    for i in stride(from: communicator.rank, to: files.count, by: communicator.size) where fault == nil {
      do {
        let found = try summary(of: path + "/" + files[i].name)
        if found.bytes != files[i].bytes || found.crc32 != files[i].crc32 {
          fault = .damaged(
            "checkpoint \(path): \(files[i].name) is damaged: its size or checksum is not the manifest's")
        }
      } catch { fault = error }
    }
    try agree(on: fault, communicator)
  }

  /// The root's manifest, on every rank.
  private static func readManifest(
    _ path: String, _ communicator: any Communicator
  ) throws(CheckpointFault) -> Manifest {
    var manifest: Manifest?
    var fault: CheckpointFault?
    if communicator.isRoot { do { manifest = try readManifest(path) } catch { fault = error } }
    try agree(on: fault, communicator)
    let bytes = communicator.broadcast(manifest.map { Array((try? JSONEncoder().encode($0)) ?? Data()) })
    guard let manifest = manifest ?? (try? JSONDecoder().decode(Manifest.self, from: Data(bytes))) else {
      throw .unreadable("checkpoint \(path): the root's \(manifestFile) did not arrive")
    }
    return manifest
  }

  /// Throws the gravest fault of all ranks on every rank, the lowest rank's where several have one.
  private static func agree(on fault: CheckpointFault?, _ communicator: any Communicator) throws(CheckpointFault) {
    let gravity =
      switch fault {
      case nil: 0
      case .damaged: 1
      case .unreadable: 2
      }
    let gravest = communicator.allReduce(gravity, .max)
    if gravest == 0 { return }
    let owner = communicator.allReduce(gravity == gravest ? communicator.rank : communicator.size, .min)
    let mine = communicator.rank == owner ? Array("\(fault!)".utf8) : nil
    let reason = String(decoding: communicator.broadcast(mine, from: owner), as: UTF8.self)
    throw gravest == 1 ? .damaged(reason) : .unreadable(reason)
  }

  /// The manifest of a checkpoint, read by one process for itself.
  static func readManifest(_ path: String) throws(CheckpointFault) -> Manifest {
    let file = path + "/" + manifestFile
    let descriptor = open(file, O_RDONLY | O_CLOEXEC)
    if descriptor < 0, errno == ENOENT { throw .damaged("checkpoint \(path) has no \(manifestFile)") }
    guard descriptor >= 0 else { throw fault(file, errno) }
    let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    let data: Data
    do { data = try handle.readToEnd() ?? Data() } catch {
      throw .unreadable("cannot read \(file): \(error.localizedDescription)")
    }
    struct Format: Decodable { let format: Int }
    // A newer format may have other fields; a damaged number must not look like one.
    if let found = try? JSONDecoder().decode(Format.self, from: data).format, found > Manifest.currentFormat {
      throw .unreadable(
        "checkpoint \(path) has format \(found), this build reads \(Manifest.currentFormat): update apus")
    }
    guard let manifest = try? JSONDecoder().decode(Manifest.self, from: data), manifest.isConsistent,
      manifest.format == Manifest.currentFormat
    else { throw .damaged("checkpoint \(path): \(manifestFile) cannot be read: it is damaged") }
    return manifest
  }

  // MARK: Reading

  /// Fills `state` from a checkpoint that has been verified; of what is spread over ranks, the rows that are asked for.
  /// - Throws: `RunError` where an array is missing or has another shape: another encoder, head or method wrote it.
  package static func read(_ state: [SavedState], from path: String) throws {
    let file = try HDF5File.open(path + "/" + stateFile)
    defer { try? file.close() }
    for array in state where array.rows == nil {
      let shape: [Int]
      do { shape = try file.shape(of: array.name) } catch { throw missing(array.name, path) }
      guard shape == array.shape else { throw mismatch(array, shape, path) }
      switch array.values {
      case .floats(let values): try file.read(array.name, into: values)
      case .integers(let values): try file.read(array.name, into: values)
      }
    }
    let spread = state.filter { $0.rows != nil }
    if spread.isEmpty { return }
    let files = try readManifest(path).files.filter { $0.slices != nil }
    for array in spread { try readRows(of: array, files, path) }
  }

  /// The rows that are here, from whichever ranks' files have them.
  private static func readRows(of array: SavedState, _ files: [Manifest.File], _ path: String) throws {
    let rows = array.rows!
    let width = array.shape.dropFirst().reduce(1, *)
    var left = rows.count
    var isKnown = false
    for file in files {
      guard let slice = file.slices?.first(where: { $0.name == array.name }) else { continue }
      isKnown = true
      guard slice.shape == array.shape else { throw mismatch(array, slice.shape, path) }
      let common = rows.clamped(to: slice.rows)
      if common.isEmpty { continue }
      let from = common.lowerBound - slice.first..<common.upperBound - slice.first
      let into = (common.lowerBound - rows.lowerBound) * width..<(common.upperBound - rows.lowerBound) * width
      let reader = try HDF5File.open(path + "/" + file.name)
      defer { try? reader.close() }
      switch array.values {
      case .floats(let values):
        try reader.read(array.name, rows: from, into: UnsafeMutableBufferPointer(rebasing: values[into]))
      case .integers(let values):
        try reader.read(array.name, rows: from, into: UnsafeMutableBufferPointer(rebasing: values[into]))
      }
      left -= common.count
    }
    guard isKnown else { throw missing(array.name, path) }
    guard left == 0 else {
      throw RunError(
        "checkpoint \(path): \(left) of rows \(rows) of \(array.name) are in none of its files; "
          + "take an earlier checkpoint")
    }
  }

  private static func missing(_ name: String, _ path: String) -> RunError {
    RunError("checkpoint \(path) has no \(name): it was written by another method; choose another --run")
  }

  private static func mismatch(_ array: SavedState, _ shape: [Int], _ path: String) -> RunError {
    RunError(
      "checkpoint \(path): \(array.name) has shape \(shape), the recipe's is \(array.shape); choose another --run")
  }
}
