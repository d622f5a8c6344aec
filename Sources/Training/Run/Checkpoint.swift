import CZlib
import Engine
import Foundation
import HDF5

/// What a checkpoint says of itself.
package struct Manifest: Codable, Sendable, Equatable {
  package struct File: Codable, Sendable, Equatable {
    package let name: String, bytes: Int, crc32: UInt32
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
  package var fingerprint: [String: String]
  package var files: [File] = []
}

/// A checkpoint is a folder `step-00000123`: all state in `state.h5`, and `manifest.json` with checksums, written last.
/// It is written aside, flushed to disk and renamed, so a folder of that name is whole.
package enum Checkpoint {
  static let stateFile = "state.h5", manifestFile = "manifest.json"

  package static func name(step: Int) -> String { "step-" + String(repeating: "0", count: max(0, 8 - "\(step)".count)) + "\(step)" }

  // MARK: Writing

  /// Writes a checkpoint and removes all but the newest `keep`. On the root alone.
  package static func write(_ state: [SavedState], _ manifest: Manifest, in folder: RunFolder, keep: Int) throws {
    let target = folder.checkpoints + "/" + name(step: manifest.step)
    let aside = folder.checkpoints + "/.\(name(step: manifest.step)).partial"
    let files = FileManager.default
    try? files.removeItem(atPath: aside)
    do {
      try files.createDirectory(atPath: aside, withIntermediateDirectories: true)
      try write(state, to: aside + "/" + stateFile)
      var manifest = manifest
      manifest.files = [try summary(of: aside + "/" + stateFile)]
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      try encoder.encode(manifest).write(to: URL(fileURLWithPath: aside + "/" + manifestFile))
      for file in [stateFile, manifestFile] { try flush(aside + "/" + file) }
      try flush(aside)
      try? files.removeItem(atPath: target)
      guard rename(aside, target) == 0 else { throw RunError(String(cString: strerror(errno))) }
      try flush(folder.checkpoints)
    } catch {
      try? files.removeItem(atPath: aside)
      let free = RunFolder.freeBytes(at: folder.checkpoints).map { ", \($0 >> 20) MiB are free" } ?? ""
      throw RunError("cannot write checkpoint \(target)\(free): \(error); earlier checkpoints are whole: make room and start again")
    }
    for old in list(folder).dropLast(keep) { try? files.removeItem(atPath: folder.checkpoints + "/" + name(step: old)) }
  }

  private static func write(_ state: [SavedState], to path: String) throws {
    let file = try HDF5File.create(path)
    do {
      for array in state {
        switch array.values {
        case .floats(let values): try file.write(UnsafeBufferPointer(values), shape: array.shape, to: array.name)
        case .integers(let values): try file.write(UnsafeBufferPointer(values), shape: array.shape, to: array.name)
        }
      }
    } catch {
      try? file.close()
      throw error
    }
    try file.close()
  }

  /// Waits until a file or folder is on disk.
  private static func flush(_ path: String) throws {
    let descriptor = open(path, O_RDONLY)
    guard descriptor >= 0 else { throw RunError("\(path): \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw RunError("\(path): \(String(cString: strerror(errno)))") }
  }

  private static func summary(of path: String) throws -> Manifest.File {
    guard let handle = FileHandle(forReadingAtPath: path) else { throw RunError("\(path): \(String(cString: strerror(errno)))") }
    defer { try? handle.close() }
    var crc: UInt32 = 0, bytes = 0
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

  /// The newest whole checkpoint, and what is wrong with those after it.
  package static func newest(_ folder: RunFolder) -> (manifest: Manifest?, damaged: [String]) {
    var damaged: [String] = []
    for step in list(folder).reversed() {
      do { return (try verify(folder.checkpoints + "/" + name(step: step)), damaged) } catch { damaged.append("\(error)") }
    }
    return (nil, damaged)
  }

  /// Reads a manifest and checks every file against it.
  package static func verify(_ path: String) throws(RunError) -> Manifest {
    guard let data = FileManager.default.contents(atPath: path + "/" + manifestFile) else {
      throw RunError("checkpoint \(path) has no \(manifestFile)")
    }
    guard let manifest = try? JSONDecoder().decode(Manifest.self, from: data) else {
      throw RunError("checkpoint \(path): \(manifestFile) cannot be read")
    }
    guard manifest.format == Manifest.currentFormat else {
      throw RunError("checkpoint \(path) has format \(manifest.format), this build reads \(Manifest.currentFormat): update apus")
    }
    for file in manifest.files {
      guard let found = try? summary(of: path + "/" + file.name), found == file else {
        throw RunError("checkpoint \(path): \(file.name) is damaged: its size or checksum is not the manifest's")
      }
    }
    return manifest
  }

  /// Fills `state` from a checkpoint that has been verified.
  /// - Throws: `RunError` where an array is missing or has another shape: another encoder, head or method wrote it.
  package static func read(_ state: [SavedState], from path: String) throws {
    let file = try HDF5File.open(path + "/" + stateFile)
    defer { try? file.close() }
    for array in state {
      let shape: [Int]
      do { shape = try file.shape(of: array.name) } catch {
        throw RunError("checkpoint \(path) has no \(array.name): it was written by another method; choose another --run")
      }
      guard shape == array.shape else {
        throw RunError("checkpoint \(path): \(array.name) has shape \(shape), the recipe's is \(array.shape); choose another --run")
      }
      switch array.values {
      case .floats(let values): try file.read(array.name, into: values)
      case .integers(let values): try file.read(array.name, into: values)
      }
    }
  }

  // MARK: Showing

  /// What a checkpoint holds, array by array.
  package static func arrays(_ path: String) throws -> [(name: String, shape: [Int], crc32: UInt32, norm: Double)] {
    let file = try HDF5File.open(path + "/" + stateFile)
    defer { try? file.close() }
    var arrays: [(name: String, shape: [Int], crc32: UInt32, norm: Double)] = []
    func visit(_ group: String) throws {
      for name in try file.names(in: group.isEmpty ? "/" : group) {
        let full = group.isEmpty ? name : group + "/" + name
        guard let shape = try? file.shape(of: full) else {
          try visit(full)
          continue
        }
        if try file.type(of: full) == .float {
          let values = try file.read(full, as: Float.self)
          arrays.append((full, shape, values.withUnsafeBytes { czlib_crc32(0, $0.baseAddress, $0.count) }, norm(values, values.count)))
        } else {
          let values = try file.read(full, as: Int64.self)
          arrays.append((full, shape, values.withUnsafeBytes { czlib_crc32(0, $0.baseAddress, $0.count) }, Double(values.first ?? 0)))
        }
      }
    }
    try visit("")
    return arrays
  }
}
