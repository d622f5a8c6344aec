import Engine
import Foundation
import Ranks
import Shards
import TestSupport
import Testing
import Training

/// The encoder's input description is stored with its run, and used whenever the encoder is.
@Suite final class FrozenEncoderTests {
  let tiny: TinyRun
  init() throws {
    tiny = try TinyRun()
    try tiny.pack("train", count: 40, mean: 0.25, deviation: 0.125)
  }

  private func manifest(_ run: String, step: Int) -> URL {
    URL(fileURLWithPath: "\(run)/checkpoints/\(Checkpoint.name(step: step))/manifest.json")
  }

  /// Removes the fields that earlier versions did not write from a manifest.
  private func age(_ url: URL) throws {
    var object = try #require(JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any])
    #expect(object.removeValue(forKey: "input") != nil)
    try JSONSerialization.data(withJSONObject: object).write(to: url)
  }

  @Test func theInputIsKeptWithItsNumbers() throws {
    let run = try tiny.train("run", on: "train")
    let encoder = try FrozenEncoder(run: run)
    #expect(encoder.input == EncoderInput(size: 8, mean: [0.25], deviation: [0.125]))
    #expect(encoder.step == 6 && encoder.notices.isEmpty)
    // The data set is not needed.
    try FileManager.default.removeItem(atPath: tiny.folder + "/train")
    #expect(try FrozenEncoder(run: run).input == encoder.input)
    #expect(try FrozenEncoder(run: run, .step(2)).step == 2)
    let error = #expect(throws: RunError.self) { try FrozenEncoder(run: run, .step(3)) }
    #expect(error?.description.hasSuffix("has no checkpoint of step 3; it has those of steps 2, 4, 6") == true)
  }

  @Test func anOlderCheckpointAsksItsTrainingSet() throws {
    let run = try tiny.train("run", on: "train")
    try age(manifest(run, step: 6))
    let encoder = try FrozenEncoder(run: run)
    #expect(encoder.input == EncoderInput(size: 8, mean: [0.25], deviation: [0.125]))
    #expect(encoder.notices.count == 1 && encoder.notices[0].hasSuffix("mean and deviation of \(tiny.folder)/train"))
    try FileManager.default.removeItem(atPath: tiny.folder + "/train")
    let gone = #expect(throws: RunError.self) { try FrozenEncoder(run: run) }
    #expect(gone?.description.contains("its training set cannot be asked: ") == true)
    try tiny.pack("train", count: 41)
    let other = #expect(throws: RunError.self) { try FrozenEncoder(run: run) }
    #expect(other?.description.contains("is not the set that it was trained on") == true)
  }

  /// An older checkpoint whose recipe has explicit numbers needs no data set.
  @Test func anOlderCheckpointWithNumbersInItsRecipe() throws {
    let run = try tiny.train("run", on: "train", ["views.0.operations.2={normalise: {mean: [0.5], deviation: [2]}}"])
    try age(manifest(run, step: 6))
    try FileManager.default.removeItem(atPath: tiny.folder + "/train")
    let encoder = try FrozenEncoder(run: run)
    #expect(encoder.input == EncoderInput(size: 8, mean: [0.5], deviation: [2]) && encoder.notices.isEmpty)
  }

  @Test func aResumedRunKeepsItsInput() throws {
    try tiny.pack("other", count: 40, mean: 0.5, deviation: 0.5)
    let run = try tiny.train("run", on: "train")
    try tiny.train("run", on: "other", ["length=8 steps"], force: true)
    let encoder = try FrozenEncoder(run: run)
    #expect(encoder.step == 8 && encoder.input == EncoderInput(size: 8, mean: [0.25], deviation: [0.125]))
  }

  @Test func damagedCheckpointsAreSaid() throws {
    let run = try tiny.train("run", on: "train")
    let state = URL(fileURLWithPath: "\(run)/checkpoints/\(Checkpoint.name(step: 6))/state.h5")
    var bytes = try Data(contentsOf: state)
    bytes[bytes.count / 2] ^= 1
    try bytes.write(to: state)
    let encoder = try FrozenEncoder(run: run)
    #expect(encoder.step == 4)
    #expect(encoder.notices.count == 1 && encoder.notices[0].hasPrefix("Passed over: checkpoint "))
    #expect(try Exhibits.refresh(run, data: DataSet(at: tiny.folder + "/train")) == encoder.notices)
  }

  /// Files of distributed state, such as a bank, are not read, so damage in them does not matter.
  @Test func onlyTheFilesOfTheEncoderAreRead() throws {
    let bank = [
      "method={name: memory-bank, temperature: 0.2, head: [16], negatives: 20, momentum: 0.5}", "views.0.count=1",
    ]
    let run = try tiny.train("run", on: "train", bank)
    let slices = "\(run)/checkpoints/\(Checkpoint.name(step: 6))/slices-00000.h5"
    try Data("damaged".utf8).write(to: URL(fileURLWithPath: slices))
    let encoder = try FrozenEncoder(run: run)
    #expect(encoder.step == 6 && encoder.notices.isEmpty)
    #expect(try Checkpoint.newest(RunFolder(run)).manifest?.step == 4)
  }

  @Test func allRanksTakeTheSame() throws {
    let run = try tiny.train("run", on: "train")
    let checksums = try Ranks.run(3) { communicator in
      try FrozenEncoder(run: run, .result, communicator).state.checksum
    }
    #expect(Set(checksums).count == 1)
  }

  /// The root alone looks which checkpoint there is: a rank that sees another folder has no say.
  @Test func theRootChooses() throws {
    let run = try tiny.train("run", on: "train")
    let steps = try Ranks.run(3) { communicator in
      let folder = RunFolder(communicator.isRoot ? run : run + "-none")
      return try Checkpoint.newest(folder, communicator).manifest?.step
    }
    #expect(steps == [6, 6, 6])
    let words = Ranks.run(3) { communicator in
      do {
        _ = try FrozenEncoder(run: communicator.isRoot ? run : run + "-none", .step(5), communicator)
        return "found"
      } catch { return "\(error)" }
    }
    #expect(Set(words).count == 1 && words[0].contains("has no checkpoint of step 5"), "\(words)")
  }

  /// Each stage's views are drawn as that stage drew them.
  @Test func exhibitsShowTheViewsOfTheirStage() throws {
    let tiny = try NoiseRun()
    try tiny.train(tiny.request("stages: [{name: first}, {name: second}]"))
    let data = try DataSet(at: tiny.path + "/data")
    func picture(_ stage: String) throws -> String {
      let encoder = try FrozenEncoder(run: tiny.run.path, .stage(stage))
      let exhibits = try Exhibits.make(encoder, run: tiny.run.path, data: data, test: nil, nil)
      let encoding = JSONEncoder()
      encoding.outputFormatting = .sortedKeys
      return String(decoding: try encoding.encode(exhibits.grids[0]), as: UTF8.self)
    }
    #expect(try picture("first") == picture("first") && picture("first") != picture("second"))
  }

  /// Weights that are not finite are reported when they are read, not in the first step.
  @Test func weightsThatAreNotFiniteAreNamed() throws {
    let run = try tiny.train("run", on: "train")
    let encoder = try FrozenEncoder(run: run)
    let entry = try #require(encoder.state.parameters.layout.entries.first { $0.name == "encoder.bn1.weight" })
    encoder.state.parameters[entry.slice][3] = .nan
    let file = tiny.folder + "/out.safetensors"
    #expect(throws: RunError.self) { try Weights.export(encoder.state, metadata: [:], to: file) }
    let error = #expect(throws: RunError.self) {
      try Weights.load(file, into: encoder.network.makeState())
    }
    #expect(error?.description.contains("`bn1.weight` holds nan at element 3, expected finite numbers") == true)
  }

  /// An exported file contains the encoder's input description.
  @Test func anExportHoldsTheInput() throws {
    let run = try tiny.train("run", on: "train")
    let encoder = try FrozenEncoder(run: run)
    let file = tiny.folder + "/out.safetensors"
    try Weights.export(encoder.state, metadata: [Weights.inputKey: try encoder.input.json], to: file)
    let other = try tiny.pack("other", count: 40, mean: 0.5, deviation: 0.5)
    let read = try FrozenEncoder(weights: file, recipe: try TinyRun.recipe(), data: other)
    #expect(read.input == encoder.input && read.notices.isEmpty && read.state.checksum == encoder.state.checksum)
    try Weights.export(encoder.state, metadata: [:], to: file)
    let bare = try FrozenEncoder(weights: file, recipe: try TinyRun.recipe(), data: other)
    #expect(bare.input == EncoderInput(size: 8, mean: [0.5], deviation: [0.5]) && bare.notices.count == 1)
    try Weights.export(encoder.state, metadata: [Weights.inputKey: "{}"], to: file)
    #expect(throws: RunError.self) { try FrozenEncoder(weights: file, recipe: try TinyRun.recipe(), data: other) }
  }
}
