import Foundation
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
    var saved: [SavedState] { [SavedState("a/b", shape: [2, 3], floats: floats), SavedState("c", integers: integers)] }
  }

  private func withFolder(_ body: (RunFolder) throws -> Void) throws {
    let folder = RunFolder(FileManager.default.temporaryDirectory.appendingPathComponent("checkpoint-\(UUID().uuidString)").path)
    try folder.make()
    defer { try? FileManager.default.removeItem(atPath: folder.path) }
    try body(folder)
  }

  private func manifest(_ step: Int) -> Manifest {
    Manifest(stage: 0, step: step, recipe: "", data: "d", dataFingerprint: "1", images: 1, encoder: "encoder", channels: 3, fingerprint: [:])
  }

  @Test func whatIsWrittenIsRead() throws {
    try withFolder { folder in
      let state = State(5), other = State(0)
      try Checkpoint.write(state.saved, manifest(7), in: folder, keep: 2)
      #expect(Checkpoint.newest(folder).manifest?.step == 7)
      try Checkpoint.read(other.saved, from: folder.checkpoints + "/step-00000007")
      #expect(Array(other.floats) == Array(state.floats) && other.integers[0] == 5)
      let wrong = [SavedState("a/b", shape: [3, 2], floats: other.floats)]
      #expect(throws: RunError.self) { try Checkpoint.read(wrong, from: folder.checkpoints + "/step-00000007") }
    }
  }

  @Test func theNewestAreKept() throws {
    try withFolder { folder in
      for step in [1, 20, 300, 4000] { try Checkpoint.write(State(1).saved, manifest(step), in: folder, keep: 2) }
      #expect(Checkpoint.list(folder) == [300, 4000])
    }
  }

  /// A damaged checkpoint is passed over, said, and the one before it is taken.
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
      let (found, damaged) = Checkpoint.newest(folder)
      #expect(found?.step == 1)
      #expect(damaged.count == 1 && damaged[0].contains("step-00000002"))
    }
  }

  /// Half a checkpoint, as a kill leaves it, is no checkpoint.
  @Test func whatWasBeingWrittenIsNotThere() throws {
    try withFolder { folder in
      try Checkpoint.write(State(1).saved, manifest(1), in: folder, keep: 2)
      try FileManager.default.createDirectory(atPath: folder.checkpoints + "/.step-00000002.partial", withIntermediateDirectories: true)
      #expect(Checkpoint.list(folder) == [1])
      try Checkpoint.write(State(2).saved, manifest(2), in: folder, keep: 2)
      #expect(Checkpoint.newest(folder).manifest?.step == 2)
    }
  }
}
