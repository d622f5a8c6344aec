import Engine
import Foundation
import Shards

/// An encoder that a run ended with, to be looked at and not to be changed.
package final class FrozenEncoder {
  package let network: Network
  package let state: NetworkState
  package let recipe: Recipe
  package let stage: Stage
  package let channels: Int
  /// Steps that it was trained for.
  package let step: Int

  /// The newest whole checkpoint of a run.
  package init(run: String) throws {
    let folder = RunFolder(run)
    let (newest, damaged) = try Checkpoint.newest(folder)
    guard let manifest = newest else {
      throw RunError(
        "run \(run) has no whole checkpoint\(damaged.isEmpty ? "" : ": " + damaged.joined(separator: "; ")); is it a run's folder?"
      )
    }
    recipe = try Recipe(yaml: manifest.recipe, from: run)
    stage = recipe.stages[manifest.stage]
    channels = manifest.channels
    step = manifest.step
    network = Network(stage.encoder.options(channels: channels))
    state = network.makeState()
    try Checkpoint.read(state.saved(manifest.encoder), from: folder.checkpoints + "/" + Checkpoint.name(step: step))
  }

  /// Weights in safetensors, of the encoder that a recipe describes.
  package init(weights: String, recipe: Recipe, channels: Int) throws {
    self.recipe = recipe
    self.channels = channels
    step = 0
    stage = recipe.stages.last!
    network = Network(stage.encoder.options(channels: channels))
    state = network.makeState()
    try Weights.load(weights, into: state)
  }

  /// The same encoder before it learned anything.
  package func untrained() -> NetworkState {
    let state = network.makeState()
    state.initialise(seed: recipe.seed)
    return state
  }

  /// The view that evaluation makes of an image.
  package var view: EvaluationView {
    EvaluationView(size: stage.views[0].size, normalise: stage.views[0].operations.last?.body as? Normalise ?? .none)
  }
}
