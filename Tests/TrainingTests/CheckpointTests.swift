import CZlib
import Engine
import Foundation
import Ranks
import Shards
import TestSupport
import Testing
import Training

@Suite struct CheckpointTests {
  private final class State {
    let floats = UnsafeMutableBufferPointer<Float>.allocate(capacity: 6)
    let integers = UnsafeMutableBufferPointer<Int64>.allocate(capacity: 1)
    init(_ start: Float) {
      for i in 0..<6 { floats[i] = start + Float(i) }
      integers[0] = Int64(start)
    }
    deinit {
      floats.deallocate()
      integers.deallocate()
    }
    var saved: [SavedState] {
      [SavedState("a/b", shape: [2, 3], floats: floats), SavedState("c", integers: integers)]
    }
  }

  private func withFolder(_ body: (RunFolder) throws -> Void) throws {
    let folder = RunFolder(
      FileManager.default.temporaryDirectory.appendingPathComponent("checkpoint-\(UUID().uuidString)").path)
    try folder.make()
    defer { try? FileManager.default.removeItem(atPath: folder.path) }
    try body(folder)
  }

  private func manifest(_ step: Int) -> Manifest {
    Manifest(
      stageSteps: [step], recipe: "", data: "d", dataFingerprint: "1", images: 1, encoder: "encoder", channels: 3,
      fingerprint: [:])
  }

  /// A rank waits for a folder that another one makes.
  @Test func aFolderMayBecomeVisibleLater() throws {
    try withFolder { folder in
      let path = folder.path + "/later"
      let maker = Thread {
        Thread.sleep(forTimeInterval: 0.3)
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
      }
      maker.start()
      Checkpoint.waitUntilVisible(path)
      #expect(FileManager.default.fileExists(atPath: path))
    }
  }

  @Test func whatIsWrittenIsRead() throws {
    try withFolder { folder in
      let state = State(5)
      let other = State(0)
      try Checkpoint.write(state.saved, manifest(7), in: folder, keep: 2)
      #expect(try Checkpoint.newest(folder).manifest?.step == 7)
      try Checkpoint.read(other.saved, from: folder.checkpoints + "/step-00000007")
      #expect(Array(other.floats) == Array(state.floats) && other.integers[0] == 5)
      let wrong = [SavedState("a/b", shape: [3, 2], floats: other.floats)]
      #expect(throws: RunError.self) { try Checkpoint.read(wrong, from: folder.checkpoints + "/step-00000007") }
    }
  }

  @Test func theNewestAreKept() throws {
    try withFolder { folder in
      for step in [1, 20, 300, 4000] { try Checkpoint.write(State(1).saved, manifest(step), in: folder, keep: 2) }
      #expect(try Checkpoint.list(folder) == [300, 4000])
    }
  }

  /// A damaged checkpoint is skipped with a notice, and the previous one is used.
  @Test(arguments: ["flip", "cut", "missing", "manifest"]) func damageIsPassedOver(_ damage: String) throws {
    try withFolder { folder in
      for step in [1, 2] { try Checkpoint.write(State(1).saved, manifest(step), in: folder, keep: 2) }
      let state = URL(fileURLWithPath: folder.checkpoints + "/step-00000002/state.h5")
      var bytes = try Data(contentsOf: state)
      switch damage {
      case "flip":
        bytes[bytes.count / 2] ^= 1
        try bytes.write(to: state)
      case "cut": try bytes.dropLast().write(to: state)
      case "missing": try FileManager.default.removeItem(at: state)
      default: try Data("{".utf8).write(to: URL(fileURLWithPath: folder.checkpoints + "/step-00000002/manifest.json"))
      }
      let (found, damaged) = try Checkpoint.newest(folder)
      #expect(found?.step == 1)
      #expect(damaged.count == 1 && damaged[0].contains("step-00000002"))
    }
  }

  /// A half-written checkpoint, as a kill leaves it, is ignored.
  @Test func whatWasBeingWrittenIsNotThere() throws {
    try withFolder { folder in
      try Checkpoint.write(State(1).saved, manifest(1), in: folder, keep: 2)
      try FileManager.default.createDirectory(
        atPath: folder.checkpoints + "/.step-00000002.partial", withIntermediateDirectories: true)
      #expect(try Checkpoint.list(folder) == [1])
      try Checkpoint.write(State(2).saved, manifest(2), in: folder, keep: 2)
      #expect(try Checkpoint.newest(folder).manifest?.step == 2)
    }
  }

  // MARK: State that is spread over ranks

  /// An (11, 3) matrix with values 3·row + column, distributed over the ranks, and a replicated number.
  private final class Spread {
    let rows: Range<Int>
    let floats: UnsafeMutableBufferPointer<Float>
    let integers = UnsafeMutableBufferPointer<Int64>.allocate(capacity: 1)
    init(_ communicator: any Communicator, filled: Bool) {
      rows = share(of: 11, rank: communicator.rank, ranks: communicator.size)
      floats = .allocate(capacity: rows.count * 3)
      for i in floats.indices { floats[i] = filled ? Float(rows.lowerBound * 3 + i) : -1 }
      integers[0] = filled ? 5 : 0
    }
    deinit {
      floats.deallocate()
      integers.deallocate()
    }
    var saved: [SavedState] {
      [
        SavedState("bank/values", shape: [11, 3], rows: rows, floats: floats),
        SavedState("bank/count", integers: integers),
      ]
    }
    /// Writes the state, which lives until it is written.
    func write(_ manifest: Manifest, in folder: RunFolder, _ communicator: any Communicator) throws {
      try Checkpoint.write(saved, manifest, in: folder, keep: 2, communicator)
    }
    var isRight: Bool {
      integers[0] == 5 && floats.indices.allSatisfy { floats[$0] == Float(rows.lowerBound * 3 + $0) }
    }
  }

  /// Any number of ranks reads the rows, independent of the number that wrote them; also more ranks than rows.
  @Test(arguments: [1, 2, 3, 13]) func slicesAreReadOnAnyNumberOfRanks(writers: Int) throws {
    try withFolder { folder in
      let manifest = manifest(3)
      let path = folder.checkpoints + "/step-00000003"
      _ = try Ranks.run(writers) { communicator in
        try Spread(communicator, filled: true).write(manifest, in: folder, communicator)
      }
      for readers in [1, 2, 4, 12] {
        let right = try Ranks.run(readers) { communicator in
          guard try Checkpoint.newest(folder, communicator).manifest?.step == 3 else { return false }
          let state = Spread(communicator, filled: false)
          try Checkpoint.read(state.saved, from: path)
          return state.isRight
        }
        #expect(right.allSatisfy { $0 }, "\(writers) to \(readers)")
      }
      // Apart from the number of slices, the listing does not depend on the ranks.
      let shown = try Checkpoint.arrays(path)
      #expect(shown.map(\.name) == ["bank/count", "bank/values"] && shown[1].shape == [11, 3])
      #expect(shown[0].slices == nil && shown[1].slices == writers)
      #expect(abs(shown[1].norm - (0..<33).reduce(0.0) { $0 + Double($1 * $1) }.squareRoot()) < 1e-9)
      let values = (0..<33).map(Float.init)
      #expect(shown[1].crc32 == values.withUnsafeBytes { czlib_crc32(0, $0.baseAddress, $0.count) })
    }
  }

  @Test func otherShapesAndMethodsAreRefused() throws {
    try withFolder { folder in
      let one = SingleProcess()
      let state = Spread(one, filled: true)
      let path = folder.checkpoints + "/step-00000001"
      try Checkpoint.write(state.saved, manifest(1), in: folder, keep: 2)
      for (name, shape) in [("bank/values", [33, 1]), ("bank/others", [11, 3])] {
        let wrong = [SavedState(name, shape: shape, rows: 0..<shape[0], floats: state.floats)]
        let error = #expect(throws: RunError.self) { try Checkpoint.read(wrong, from: path) }
        #expect(error?.description.contains("choose another --run") == true)
      }
      #expect(state.saved[0].totalBytes == 132 && state.saved[0].localShape == [11, 3])
    }
  }

  /// A damaged slice makes the whole checkpoint damaged, on every rank.
  @Test func aDamagedSliceIsPassedOver() throws {
    try withFolder { folder in
      for step in [1, 2] {
        let manifest = manifest(step)
        _ = try Ranks.run(3) { communicator in
          try Spread(communicator, filled: true).write(manifest, in: folder, communicator)
        }
      }
      let slice = URL(fileURLWithPath: folder.checkpoints + "/step-00000002/slices-00001.h5")
      try Data(contentsOf: slice).dropLast().write(to: slice)
      let found = try Ranks.run(2) { communicator in
        let (manifest, damaged) = try Checkpoint.newest(folder, communicator)
        return "\(manifest?.step ?? 0) \(damaged.count) \(damaged.first?.contains("slices-00001.h5") ?? false)"
      }
      #expect(found == ["1 1 true", "1 1 true"])
    }
  }

  /// If one rank cannot write, all ranks throw, and the previous checkpoint is kept.
  @Test func aRankThatFailsFailsAll() throws {
    try withFolder { folder in
      for step in [1, 2] {
        let manifest = manifest(step)
        let outcome = try Ranks.run(3) { communicator in
          let state = Spread(communicator, filled: true)
          // Two arrays of the same name cannot be written.
          let saved = step == 2 && communicator.rank == 1 ? state.saved + state.saved.prefix(1) : state.saved
          return withExtendedLifetime(state) {
            do { try Checkpoint.write(saved, manifest, in: folder, keep: 2, communicator) } catch { return "\(error)" }
            return ""
          }
        }
        if step == 1 { #expect(outcome == ["", "", ""]) }
        if step == 2 {
          #expect(
            outcome.allSatisfy {
              $0.contains("cannot write checkpoint") && $0.contains("bank/values") && $0.contains("whole")
            }, "\(outcome)")
        }
      }
      #expect(try Checkpoint.list(folder) == [1])
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.checkpoints) == ["step-00000001"])
      #expect(try Checkpoint.newest(folder).manifest?.step == 1)
    }
  }
}
