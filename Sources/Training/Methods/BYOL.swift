import Engine
import Foundation
import Shards

/// Bootstrap Your Own Latent. Grill et al. 2020, arXiv:2006.07733; reference google-deepmind/deepmind-research, `byol`.
///
/// From each view the online network predicts the target network's projection of the other view. The target's
/// parameters are a moving average of the online network's. There are no negatives; predictor, moving average and batch
/// statistics prevent collapse.
///
/// Departs from the reference: the classifier that it trains alongside is replaced by `evaluate` and the kNN monitor.
package struct BYOL: MethodRecipe {
  package static let name = "byol"

  /// Widths of the projector's linear layers. All but the last have bias, BN and ReLU.
  package var head: [HeadWidth] = [.channels(4096), .channels(256)]
  /// Widths of the predictor's layers, of the same kind. The last must equal the projector's last.
  package var predictor: [HeadWidth] = [.channels(4096), .channels(256)]
  /// τ₀, the target's initial momentum, which rises to 1: 0.97 for 40 epochs, 0.99 for 100 and 300, 0.996 for 1000.
  package var momentum = 0.99
  /// Whether both views are in one BN batch. In the reference each view has its own.
  package var viewsShareBatch = false

  /// The defaults.
  package init() {}

  package func check() throws(RecipeError) {
    guard let last = head.last, last == predictor.last else {
      throw RecipeError("head and predictor need a layer each, and their last layers the same width")
    }
    try require("momentum", momentum, 0 <= momentum && momentum <= 1, "in [0, 1]")
  }

  package func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String] {
    let counts = stage.views.map(\.count)
    guard counts == [2] || counts == [1, 1], stage.views.allSatisfy({ $0.size == stage.views[0].size }) else {
      throw RecipeError(
        "byol: views have counts \(counts) and sizes \(stage.views.map(\.size)); it takes one kind of view, count 2, "
          + "or two kinds, count 1 each, of the same size")
    }
    try stage.requireOnePart(because: "byol takes its batch at once", instead: "more ranks")
    try stage.requireUnshuffled(because: "byol has no keys to hide")
    var warnings: [String] = []
    if case .group(let images) = stage.batchNorm.groups, images < 32 {
      warnings.append(
        "byol with BN groups of \(images) images has hardly any batch statistics and may collapse; take 32 or more")
    }
    if head.count < 2 || predictor.count < 2 {
      warnings.append(
        "byol with a projector of \(head.count) and a predictor of \(predictor.count) layers has no batch statistics "
          + "there and may collapse; the paper has two layers each")
    }
    if momentum == 1 { warnings.append("byol's target never moves with momentum 1: it stays at its random start") }
    if momentum == 0 {
      warnings.append("byol's target follows the online network at once with momentum 0 and may collapse")
    }
    return warnings
  }

  package func remedy(_ symptom: Symptom) -> String {
    "predictor and target no longer hold the embeddings apart: give method.head and method.predictor a hidden layer "
      + "each, whose batch statistics do, raise method.momentum towards 1, or lower optimizer.rate"
  }

  package func heads(features: Int, classes: Int) -> [HeadPlan] {
    let layers = head.normalised(features: features, lastBias: false)
    return [HeadPlan(.head, layers + predictor.normalised(features: features, lastBias: false))]
  }

  package func make(_ setting: MethodSetting) -> any Method { Running(self, setting) }

  final class Running: Method {
    let trained: [Trained]
    private(set) var embeddings: Embeddings?
    private let recipe: BYOL
    private let setting: MethodSetting
    private let loss = CosineRegression()
    /// ξ. It has parameters of a predictor too, which are never used.
    private let target: NetworkState
    private let groups: StepGroups
    /// D of a projection.
    private let dimension: Int
    /// The last step whose gradients were computed.
    private var step = 0

    private var online: Trained { trained[0] }

    init(_ recipe: BYOL, _ setting: MethodSetting) {
      self.recipe = recipe
      self.setting = setting
      let online = setting.trained("online", recipe)
      trained = [online]
      target = online.network.makeState()
      dimension = recipe.head.last!.resolved(features: setting.encoder.features)
      embeddings = Embeddings(dimension: dimension)
      groups = StepGroups(setting)
    }

    func initialise() {
      online.state.initialise(seed: setting.seed)
      target.initialise(seed: ~setting.seed)  // different weights, as in the reference
    }

    /// Copies the encoder alone; the target's projector keeps its weights.
    func adoptEncoder() { try! target.copy([.encoder], from: online.state) }  // of the same network

    var state: [SavedState] {
      let projector = recipe.head.count
      return target.saved("target", without: PartName.head.layers(projector..<projector + recipe.predictor.count))
    }

    func step(_ input: MethodInput) -> Outcome {
      let context = setting.context
      let n = input.count
      step = input.step
      return context.scratch { arena in
        let images = stacked(input, arena)
        let z = arena.tensor(n: 2 * n, c: dimension)
        context.scratch { arena in
          let pass = Pass(context, target, .target, batches(input, arena))
          let projected = online.network.forward(images, tap: .head(layers: recipe.head.count), pass).output
          context.run(1) { _, _ in z.data.update(from: projected.data, count: z.count) }
        }
        let pass = online.pass(context, batches(input, arena))
        let tape = online.network.forward(images, pass)
        let p = tape.output
        let statistics = context.part(.loss) {
          watch(tape[.head(layers: recipe.head.count)])
          return loss.apply(p, targets: z, count: input.batch, context)
        }
        online.network.backward(p, tape, pass)  // p holds its gradient now
        let rows = max(1, statistics.rows)
        var outcome = Outcome(loss: statistics.loss / rows)
        outcome.figures[.positiveSimilarity] = statistics.positive / rows
        return outcome
      }
    }

    func commit() {
      // ξ ← τ·ξ + (1 − τ)·θ,  τ = 1 − (1 − τ₀)·(cos(πk/K) + 1)/2
      let progress = Double(step) / Double(setting.plan.totalSteps)
      let momentum = 1 - (1 - recipe.momentum) * (cos(.pi * progress) + 1) / 2
      target.parameters.blend(toward: online.state.parameters, momentum: Float(momentum))
    }

    /// Health is measured on the online projections. Predictions stay close to one another for a long time even in a
    /// healthy run, and the target lags behind.
    private func watch(_ projections: Tensor) {
      let context = setting.context
      context.scratch { arena in
        embeddings?.keep(UnitRows(projections, in: arena, context).rows, context)
      }
    }

    private func batches(_ input: MethodInput, _ arena: Arena) -> BatchGroups {
      groups(input, views: 2, shared: recipe.viewsShareBatch, in: arena)
    }

    /// Both views in one tensor. They have one kind, or two kinds that are augmented differently.
    private func stacked(_ input: MethodInput, _ arena: Arena) -> Tensor {
      guard input.views.count == 2 else { return input.views[0] }
      let first = input.views[0]
      let second = input.views[1]
      let all = arena.tensor(n: first.n + second.n, h: first.h, w: first.w, c: first.c)
      setting.context.run(2) { view, _ in
        let from = view == 0 ? first : second
        (all.data + view * first.count).update(from: from.data, count: from.count)
      }
      return all
    }
  }
}
