import CZlib
import Engine
import Files
import Foundation
import HDF5
import Ranks
import Shards

/// What a checkpoint says of itself.
package struct Manifest: Codable, Sendable, Equatable {
  package struct File: Codable, Sendable, Equatable {
    package let name: String, bytes: Int, crc32: UInt32
    /// What a rank's file has of the arrays that are spread over ranks.
    package var slices: [Slice]?
  }

  /// Rows first ..< first + count of an array.
  package struct Slice: Codable, Sendable, Equatable {
    package let name: String
    /// Of the whole array.
    package let shape: [Int]
    package let first: Int, count: Int
    var rows: Range<Int> { first..<first + count }
  }

  package static let currentFormat = 1
  package var format = Manifest.currentFormat
  package var stage: Int
  package var step: Int
  /// The resolved recipe.
  package var recipe: String
  package var data: String
  package var dataFingerprint: String
  package var images: Int
  /// Which of the trained networks holds the encoder that the run is for.
  package var encoder: String
  package var channels: Int
  /// What the encoder is fed; nil in checkpoints of earlier versions.
  package var input: EncoderInput?
  package var fingerprint: [String: String]
  package var files: [File] = []

  package init(
    stage: Int, step: Int, recipe: String, data: String, dataFingerprint: String, images: Int, encoder: String,
    channels: Int, input: EncoderInput? = nil, fingerprint: [String: String]
  ) {
    self.stage = stage
    self.step = step
    self.recipe = recipe
    self.data = data
    self.dataFingerprint = dataFingerprint
    self.images = images
    self.encoder = encoder
    self.channels = channels
    self.input = input
    self.fingerprint = fingerprint
  }
}

/// A checkpoint is a folder `step-00000123`: state that every rank has in `state.h5`, state that is spread over ranks in
/// a file of each rank, and `manifest.json` with checksums, written last. It is written aside, flushed to disk and
/// renamed, so a folder of that name is whole. Any number of ranks can read it.
package enum Checkpoint {
  static let stateFile = "state.h5", manifestFile = "manifest.json"

  static func sliceFile(_ rank: Int) -> String {
    "slices-" + String(repeating: "0", count: max(0, 5 - "\(rank)".count)) + "\(rank).h5"
  }

  package static func name(step: Int) -> String {
    "step-" + String(repeating: "0", count: max(0, 8 - "\(step)".count)) + "\(step)"
  }

  // MARK: Writing

  /// Writes a checkpoint and removes all but the newest `keep`. All ranks make this call: the root writes what they all
  /// have, and each rank its own rows of the rest.
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
      _ = try communicator.onRoot {
        try? files.removeItem(atPath: aside)
        try files.createDirectory(atPath: aside, withIntermediateDirectories: true)
        manifest.files.append(try write(state.filter { $0.rows == nil }, as: stateFile, in: aside))
        return ""
      }
      if !spread.isEmpty { manifest.files += try writeSlices(spread, in: aside, communicator) }
      _ = try communicator.onRoot {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try encoder.encode(manifest).write(to: URL(fileURLWithPath: aside + "/" + manifestFile))
        try FileSystem.flush(aside + "/" + manifestFile)
        try FileSystem.flush(aside)
        try? files.removeItem(atPath: target)
        guard rename(aside, target) == 0 else { throw RunError(String(cString: strerror(errno))) }
        try FileSystem.flush(folder.checkpoints)
        return ""
      }
    } catch {
      if communicator.isRoot { try? files.removeItem(atPath: aside) }
      let free = FileSystem.freeBytes(at: folder.checkpoints).map { ", \($0 >> 20) MiB are free" } ?? ""
      throw RunError(
        "cannot write checkpoint \(target)\(free): \(error); earlier checkpoints are whole: make room and start again")
    }
    guard communicator.isRoot else { return }
    // Those after this one are damaged: the run went on from before them.
    for old in list(folder).filter({ $0 <= manifest.step }).dropLast(keep) {
      try? files.removeItem(atPath: folder.checkpoints + "/" + name(step: old))
    }
  }

  /// Each rank's rows, in a file of its own.
  /// - Returns: the files of all ranks.
  private static func writeSlices(_ state: [SavedState], in folder: String, _ communicator: any Communicator) throws
    -> [Manifest.File]
  {
    var mine: [UInt8] = []
    try communicator.onEvery {
      var file = try write(state, as: sliceFile(communicator.rank), in: folder)
      file.slices = state.map {
        Manifest.Slice(name: $0.name, shape: $0.shape, first: $0.rows!.lowerBound, count: $0.rows!.count)
      }
      mine = Array(try JSONEncoder().encode(file))
    }
    return try communicator.gather(mine).map { try JSONDecoder().decode(Manifest.File.self, from: Data($0)) }
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

  private static func summary(of path: String) throws -> Manifest.File {
    guard let handle = FileHandle(forReadingAtPath: path) else {
      throw RunError("\(path): \(String(cString: strerror(errno)))")
    }
    defer { try? handle.close() }
    var crc: UInt32 = 0
    var bytes = 0
    while let chunk = try handle.read(upToCount: 1 << 22), !chunk.isEmpty {
      crc = chunk.withUnsafeBytes { czlib_crc32(crc, $0.baseAddress, $0.count) }
      bytes += chunk.count
    }
    return Manifest.File(name: (path as NSString).lastPathComponent, bytes: bytes, crc32: crc)
  }

  // MARK: Reading

  /// Steps of the checkpoints in a run, ascending. None of them need be whole.
  package static func list(_ folder: RunFolder) -> [Int] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder.checkpoints)) ?? [])
      .compactMap { $0.hasPrefix("step-") ? Int($0.dropFirst(5)) : nil }.sorted()
  }

  /// The newest whole checkpoint, and what is wrong with those after it. All ranks make this call and get the same.
  /// - Parameter replicatedOnly: looks at the files alone that every rank needs, such as the encoder's.
  package static func newest(
    _ folder: RunFolder, _ communicator: any Communicator = SingleProcess(), replicatedOnly: Bool = false
  ) throws -> (manifest: Manifest?, damaged: [String]) {
    let steps = try communicator.onRoot { list(folder).map(String.init).joined(separator: " ") }
    var damaged: [String] = []
    for step in steps.split(separator: " ").compactMap({ Int($0) }).reversed() {
      do {
        let path = folder.checkpoints + "/" + name(step: step)
        return (try verify(path, communicator, replicatedOnly: replicatedOnly), damaged)
      } catch { damaged.append("\(error)") }
    }
    return (nil, damaged)
  }

  /// Reads a manifest and checks every file against it, the ranks sharing the files.
  package static func verify(
    _ path: String, _ communicator: any Communicator = SingleProcess(), replicatedOnly: Bool = false
  ) throws -> Manifest {
    let text = try communicator.onRoot {
      _ = try readManifest(path)
      return String(decoding: FileManager.default.contents(atPath: path + "/" + manifestFile) ?? Data(), as: UTF8.self)
    }
    let manifest = try JSONDecoder().decode(Manifest.self, from: Data(text.utf8))
    try communicator.onEvery {
      let files = replicatedOnly ? manifest.files.filter { $0.slices == nil } : manifest.files
      for (i, file) in files.enumerated() where i % communicator.size == communicator.rank {
        guard let found = try? summary(of: path + "/" + file.name), found.bytes == file.bytes, found.crc32 == file.crc32
        else {
          throw RunError("checkpoint \(path): \(file.name) is damaged: its size or checksum is not the manifest's")
        }
      }
    }
    return manifest
  }

  private static func readManifest(_ path: String) throws(RunError) -> Manifest {
    guard let data = FileManager.default.contents(atPath: path + "/" + manifestFile) else {
      throw RunError("checkpoint \(path) has no \(manifestFile)")
    }
    guard let manifest = try? JSONDecoder().decode(Manifest.self, from: data),
      manifest.files.allSatisfy({
        ($0.slices ?? []).allSatisfy { $0.first >= 0 && $0.count >= 0 && $0.first <= Int.max - $0.count }
      })
    else { throw RunError("checkpoint \(path): \(manifestFile) cannot be read") }
    guard manifest.format == Manifest.currentFormat else {
      throw RunError(
        "checkpoint \(path) has format \(manifest.format), this build reads \(Manifest.currentFormat): update apus")
    }
    return manifest
  }

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
        "checkpoint \(path): \(left) of rows \(rows) of \(array.name) are in none of its files; take an earlier checkpoint"
      )
    }
  }

  private static func missing(_ name: String, _ path: String) -> RunError {
    RunError("checkpoint \(path) has no \(name): it was written by another method; choose another --run")
  }

  private static func mismatch(_ array: SavedState, _ shape: [Int], _ path: String) -> RunError {
    RunError(
      "checkpoint \(path): \(array.name) has shape \(shape), the recipe's is \(array.shape); choose another --run")
  }

  // MARK: Showing

  /// An array of a checkpoint, to be shown.
  package struct Listing {
    package let name: String, shape: [Int]
    /// Of all its bytes, however many files they are in.
    package let crc32: UInt32
    /// Of floats; the first value of integers.
    package let norm: Double
    /// Files that it is spread over; nil where it is in one piece.
    package let slices: Int?
  }

  /// What a checkpoint holds, array by array.
  package static func arrays(_ path: String) throws -> [Listing] {
    let file = try HDF5File.open(path + "/" + stateFile)
    defer { try? file.close() }
    var arrays: [Listing] = []
    func visit(_ group: String) throws {
      for name in try file.names(in: group.isEmpty ? "/" : group) {
        let full = group.isEmpty ? name : group + "/" + name
        guard let shape = try? file.shape(of: full) else {
          try visit(full)
          continue
        }
        let (crc, squares, first) = try sums(of: full, in: file, after: 0)
        arrays.append(Listing(name: full, shape: shape, crc32: crc, norm: first ?? squares.squareRoot(), slices: nil))
      }
    }
    try visit("")
    let files = try readManifest(path).files
    for name in Set(files.flatMap { ($0.slices ?? []).map(\.name) }).sorted() {
      let pieces = files.compactMap { file in
        file.slices?.first { $0.name == name }.map { (file: file.name, slice: $0) }
      }
      .sorted { ($0.slice.first, $0.slice.count) < ($1.slice.first, $1.slice.count) }
      var crc: UInt32 = 0
      var total = 0.0
      for piece in pieces {
        let file = try HDF5File.open(path + "/" + piece.file)
        defer { try? file.close() }
        let (next, squares, _) = try sums(of: name, in: file, after: crc)
        crc = next
        total = total + squares
      }
      arrays.append(
        Listing(name: name, shape: pieces[0].slice.shape, crc32: crc, norm: total.squareRoot(), slices: pieces.count))
    }
    return arrays
  }

  /// Goes on with a checksum; the sum of squares of floats, or the first of integers.
  private static func sums(of name: String, in file: HDF5File, after crc: UInt32) throws -> (
    crc32: UInt32, squares: Double, first: Double?
  ) {
    if try file.type(of: name) == .float {
      let values = try file.read(name, as: Float.self)
      let length = norm(values, values.count)
      return (values.withUnsafeBytes { czlib_crc32(crc, $0.baseAddress, $0.count) }, length * length, nil)
    }
    let values = try file.read(name, as: Int64.self)
    return (values.withUnsafeBytes { czlib_crc32(crc, $0.baseAddress, $0.count) }, 0, Double(values.first ?? 0))
  }
}
