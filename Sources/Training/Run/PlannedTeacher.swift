import Engine
import Foundation
import Ranks
import Shards

extension Plan {
  /// A teacher of a stage, resolved: which network it is, and where its weights are.
  package struct PlannedTeacher {
    /// As the recipe has it.
    package let source: StageStart.Source
    /// Where its weights are.
    package let start: Start
    package let network: Network
    package let input: EncoderInput
    /// Where the scores of classes come out of it, and the classes' names; nil and empty where it tells none.
    package let classScores: Network.Tap?, classNames: [String]

    /// The network of an earlier stage.
    init(_ source: StageStart.Source, stage: Planned) {
      self.source = source
      start = .stage(stage.index)
      network = stage.network
      input = stage.input
      classScores = stage.stage.method.value.classScores
      classNames = stage.data.classNames
    }

    /// The network that another run came to, as its recipe describes it.
    init(_ source: StageStart.Source, run path: String, _ communicator: any Communicator) throws {
      self.source = source
      let manifest = try Plan.result(path, for: "teacher", communicator)
      let stage = try Recipe(yaml: manifest.recipe, from: path).stages[manifest.stage]
      guard let input = manifest.input else {
        throw RunError(
          "teacher: run \(path) was trained by an earlier version, which did not write down what its encoder is fed; "
            + "train it again, or take an export of it: file PATH")
      }
      start = .run(RunFolder(path))
      network = stage.network(channels: input.channels, classes: manifest.classNames?.count ?? 0)
      self.input = input
      classScores = stage.method.value.classScores
      classNames = manifest.classNames ?? []
    }

    /// The encoder of a file that `apus export` wrote; it has no heads.
    init(_ source: StageStart.Source, file path: String) throws {
      self.source = source
      let metadata = try Safetensors.read(path).metadata
      guard let recipe = metadata[Weights.recipeKey], let input = metadata[Weights.inputKey] else {
        throw RunError(
          "teacher: \(path) does not say which network it holds and what that is fed: take a file that apus export "
            + "wrote, or run FOLDER")
      }
      let stages = try Recipe(yaml: recipe, from: path).stages
      let name = metadata[Weights.stageKey] ?? stages[stages.count - 1].name
      guard let stage = stages.first(where: { $0.name == name }) else {
        throw RunError("teacher: \(path) is of stage `\(name)`, which its recipe has not: export it again")
      }
      self.input = try EncoderInput(json: input)
      start = .file(path)
      network = Network(stage.encoder.options(channels: self.input.channels))
      classScores = nil
      classNames = []
    }

    /// The network without weights.
    func make() -> Teacher {
      Teacher(network, input: input, classScores: classScores, classNames: classNames)
    }
  }
}

extension Stage {
  /// The network whose encoder is the result, with its heads.
  /// - Parameters:
  ///   - channels: of its input.
  ///   - classes: of the training set.
  func network(channels: Int, classes: Int) -> Network {
    let options = encoder.options(channels: channels)
    return Network(options, heads: method.value.heads(features: options.features, classes: classes))
  }
}
