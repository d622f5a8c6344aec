import Engine
import Foundation
import Ranks
import Shards

/// A trained encoder, to be looked at and not to be changed. A method may have several, each for a view of its own;
/// their features stand side by side.
package final class FrozenEncoder {
  /// The encoders, the first one first.
  package let sources: [FeatureSource]
  package let recipe: Recipe
  /// The stage that it was trained in, and its index.
  package let stage: Stage, stageIndex: Int
  /// Steps that it was trained for, over all stages; 0 for weights from a file.
  package let step: Int
  /// Where the scores of classes come out of the first encoder's network; nil where it tells none.
  package let classScores: Network.Tap?
  /// Classes of the training set; empty where they are not known.
  package let classNames: [String]
  /// What the user should know, in words: checkpoints that were passed over, an input that had to be derived.
  package let notices: [String]

  /// Which checkpoint of a run.
  package enum Choice: Sendable, Equatable {
    /// What the run came to: the best of its last stage by validation, else the newest whole one.
    case result
    /// Of a step.
    case step(Int)
    /// What a stage came to, by its name.
    case stage(String)
  }

  /// The encoder of a run's checkpoint. All ranks make this call and get the same encoder: the root chooses for all.
  /// - Parameter choice: which of its checkpoints.
  /// - Throws: `RunError` where there is none, or where it cannot be known what the encoder is fed.
  package convenience init(
    run: String, _ choice: Choice = .result, _ communicator: any Communicator = SingleProcess()
  ) throws {
    let folder = RunFolder(run)
    let (manifest, damaged) = try Self.choose(folder, choice, communicator)
    let recipe = try Recipe(yaml: manifest.recipe, from: run)
    let (input, derived) = try Self.input(of: manifest, recipe.stages[manifest.stage], run, communicator)
    let further = (manifest.further ?? []).map { ($0.name, $0.input) }
    self.init(
      recipe, stage: manifest.stage, inputs: [(manifest.encoder, input)] + further,
      classNames: manifest.classNames ?? [], step: manifest.step,
      notices: damaged.map { "Passed over: \($0)" } + derived)
    try communicator.onEvery {
      try Checkpoint.read(
        sources.flatMap { $0.state.saved($0.name) },
        from: folder.checkpoints + "/" + Checkpoint.name(step: manifest.step))
    }
  }

  /// Weights in safetensors, of the encoder that the last stage of a recipe describes.
  /// - Parameter data: by whose statistics the input is normalised where neither file nor recipe says so.
  package convenience init(weights path: String, recipe: Recipe, data: DataSet) throws {
    let stage = recipe.stages.count - 1
    let view = recipe.stages[stage].views[0]
    var input = EncoderInput(view, mean: data.mean, deviation: data.deviation)
    var notices: [String] = []
    if let text = try Safetensors.read(path).metadata[Weights.inputKey] {
      do { input = try EncoderInput(json: text) } catch {
        throw RunError("weights \(path): their \(Weights.inputKey) cannot be read: \(error)")
      }
    } else if view.normalise == .dataset {
      notices = ["\(path) does not say how its input is normalised: taken are mean and deviation of \(data.path)"]
    }
    self.init(recipe, stage: stage, inputs: [("encoder", input)], classNames: nil, step: 0, notices: notices)
    try Weights.load(path, into: state)
  }

  private init(
    _ recipe: Recipe, stage index: Int, inputs: [(name: String, input: EncoderInput)], classNames: [String]?, step: Int,
    notices: [String]
  ) {
    self.recipe = recipe
    stage = recipe.stages[index]
    stageIndex = index
    self.step = step
    self.notices = notices
    let stage = stage
    classScores = classNames == nil ? nil : stage.method.value.classScores
    self.classNames = classNames ?? []
    let classes = classScores == nil ? nil : classNames?.count
    sources = inputs.map { name, input in
      let network =
        classes.map { stage.network(channels: input.channels, classes: $0) }
        ?? Network(stage.encoder.options(channels: input.channels))
      return FeatureSource(name, network, network.makeState(), input: input)
    }
  }

  /// The first encoder.
  package var network: Network { sources[0].network }
  /// The first encoder's weights.
  package var state: NetworkState { sources[0].state }
  /// What the first encoder is fed.
  package var input: EncoderInput { sources[0].input }

  /// The same encoders before they learned anything.
  package func untrained() -> [FeatureSource] { sources.map { $0.untrained(seed: recipe.seed) } }

  /// The encoder of a name.
  /// - Parameter name: nil for the only one.
  /// - Throws: `RunError` where there is none of that name, or where one of several was not named.
  package func source(_ name: String?) throws(RunError) -> FeatureSource {
    let names = sources.map(\.name)
    guard let name else {
      guard sources.count == 1 else {
        throw RunError(
          "the run has \(sources.count) encoders, each for a view of its own: choose one with --encoder, of "
            + names.joined(separator: ", "))
      }
      return sources[0]
    }
    guard let source = sources.first(where: { $0.name == name }) else {
      throw RunError(
        "the run has no encoder `\(name)`\(suggestion(for: name, in: names)) its encoders are "
          + names.joined(separator: ", "))
    }
    return source
  }

  /// What a record of evaluations calls it.
  package func subject(_ path: String) -> EvaluationRecord.Subject {
    EvaluationRecord.Subject(path: path, stage: stageIndex, stageName: stage.name, step: step)
  }

  // MARK: Checkpoints

  /// A checkpoint, and what is wrong with newer ones. Files that hold no encoder are not read.
  private static func choose(
    _ folder: RunFolder, _ choice: Choice, _ communicator: any Communicator
  ) throws -> (manifest: Manifest, damaged: [String]) {
    if case .step(let step) = choice {
      let path = folder.checkpoints + "/" + Checkpoint.name(step: step)
      try communicator.onRoot {
        guard FileManager.default.fileExists(atPath: path) else {
          let steps = try Checkpoint.list(folder).map(String.init).joined(separator: ", ")
          throw RunError("run \(folder.path) has no checkpoint of step \(step); it has those of steps \(steps)")
        }
      }
      return (try Checkpoint.verify(path, communicator, replicatedOnly: true), [])
    }
    let (newest, damaged) = try Checkpoint.result(folder, communicator)
    guard let newest else {
      let reasons = damaged.isEmpty ? "" : ": " + damaged.joined(separator: "; ")
      throw RunError("run \(folder.path) has no whole checkpoint\(reasons); is it a run's folder?")
    }
    guard case .stage(let name) = choice else { return (newest, damaged) }
    let names = try Recipe(yaml: newest.recipe, from: folder.path).stages.map(\.name)
    guard let stage = names.firstIndex(of: name) else {
      throw RunError(
        "run \(folder.path) has no stage `\(name)`\(suggestion(for: name, in: names)) its stages are "
          + names.joined(separator: ", "))
    }
    if newest.stage == stage { return (newest, damaged) }
    let (ofStage, passedOver) = try Checkpoint.result(folder, stage: stage, communicator)
    guard let ofStage else {
      throw RunError(
        "run \(folder.path) has no whole checkpoint of stage `\(name)`: it is in stage `\(names[newest.stage])`")
    }
    return (ofStage, passedOver)
  }

  /// What the encoder is fed, and words where that had to be derived: older checkpoints do not hold it.
  private static func input(
    of manifest: Manifest, _ stage: Stage, _ run: String, _ communicator: any Communicator
  ) throws -> (EncoderInput, [String]) {
    if let input = manifest.input { return (input, []) }
    let view = stage.views[0]
    let unknown = [Double](repeating: 0, count: manifest.channels)
    guard view.normalise == .dataset else { return (EncoderInput(view, mean: unknown, deviation: unknown), []) }
    let text = try communicator.fromRoot {
      let data: DataSet
      do { data = try DataSet(at: manifest.data) } catch {
        throw RunError(
          "run \(run) is of an earlier version, which did not write down how its images are normalised, and its "
            + "training set cannot be asked: \(error); put the set back there")
      }
      guard String(data.fingerprint, radix: 16) == manifest.dataFingerprint else {
        throw RunError(
          "run \(run) is of an earlier version, which did not write down how its images are normalised, and "
            + "\(manifest.data) is not the set that it was trained on; put that set back there")
      }
      return try EncoderInput(view, mean: data.mean, deviation: data.deviation).json
    }
    let words =
      "The checkpoint does not say how its images are normalised: taken are mean and deviation of \(manifest.data)"
    return (try EncoderInput(json: text), [words])
  }
}
