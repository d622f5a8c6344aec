import Engine
import Shards

/// SimCLR: A Simple Framework for Contrastive Learning of Visual Representations.
/// Chen, Kornblith, Norouzi, Hinton 2020, arXiv:2002.05709; reference google-research/simclr.
///
/// Both views of an image go through encoder and head together, in one BN batch; NT-Xent sees the embeddings of all
/// ranks. The head follows `tf2/model.py`: linear layers without bias, each with BN; the last BN has no shift.
package struct SimCLR: MethodRecipe {
  package static let name = "simclr"

  /// τ. The paper: 0.1 at ImageNet scale, 0.5 on CIFAR-10.
  package var temperature = 0.1
  /// Widths of the head's layers; v1 has two.
  package var head: [HeadWidth] = [.features, .channels(128)]
  /// Standard deviation of the head's initial weights.
  package var headDeviation = 0.01
  /// Factor on the loss: the reference code computes twice the paper's.
  package var lossScale = 1.0

  private enum CodingKeys: String, CodingKey, CaseIterable { case name, temperature, head, headDeviation, lossScale }

  package init() {}

  package init(from decoder: any Decoder) throws {
    let values = try decoder.strict(CodingKeys.self, of: "simclr")
    temperature = try values.value(.temperature, default: temperature)
    head = try values.value(.head, default: head)
    headDeviation = try values.value(.headDeviation, default: headDeviation)
    lossScale = try values.value(.lossScale, default: lossScale)
    guard temperature > 0, headDeviation > 0, lossScale > 0, !head.isEmpty else {
      throw decoder.invalid("temperature, headDeviation and lossScale must be above 0, and the head needs a layer")
    }
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(temperature, forKey: .temperature)
    try container.encode(head, forKey: .head)
    try container.encode(headDeviation, forKey: .headDeviation)
    try container.encode(lossScale, forKey: .lossScale)
  }

  package func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String] {
    guard stage.views.count == 1, stage.views[0].count == 2 else {
      throw RecipeError("simclr: views have counts \(stage.views.map(\.count)); it takes one kind of view, count 2")
    }
    if stage.accumulate > 1 {
      throw RecipeError(
        "accumulate is \(stage.accumulate), but simclr's negatives are the other images of the batch, so its parts would "
          + "be another loss; use more ranks, or moco")
    }
    if case .shuffle = stage.batchNorm.groups {
      throw RecipeError("batchNorm is shuffle, but simclr has one encoder for both views; use global or group")
    }
    return []
  }

  package func remedy(_ symptom: Symptom) -> String {
    switch symptom {
    case .guessing: "lower optimizer.rate or lengthen schedule.warmup; with a small batch also raise method.temperature"
    case .point, .line, .prototypes: "lower optimizer.rate, or raise method.headDeviation"
    }
  }

  package func layers(features: Int) -> [Head.Layer] {
    head.enumerated().map { i, width in
      let isLast = i == head.count - 1
      return Head.Layer(
        width.resolved(features: features), bias: false, isLast ? .scale : .scaleAndShift, relu: !isLast,
        weight: .normal(headDeviation))
    }
  }

  package func make(_ setting: MethodSetting) -> any Method { Running(self, setting) }

  final class Running: Method {
    let trained: [Trained]
    let dimension: Int
    private(set) var embeddings: [Float] = []
    private let loss: NTXent
    private let setting: MethodSetting

    init(_ recipe: SimCLR, _ setting: MethodSetting) {
      self.setting = setting
      let layers = recipe.layers(features: setting.encoder.features)
      trained = [Trained("encoder", Network(setting.encoder, head: layers), setting.context)]
      dimension = layers.last!.outputs
      loss = NTXent(temperature: Float(recipe.temperature), scale: Float(recipe.lossScale))
    }

    func initialise() { encoder.state.initialise(seed: setting.seed) }

    func step(_ input: MethodInput) -> MethodOutcome {
      let context = setting.context
      return context.scratch { arena in
        let groups = BatchGroups(
          setting.normalisation, batch: input.batch, positions: input.positions, views: 2, ranks: input.shares.count,
          in: arena)
        let pass = encoder.pass(context, groups)
        let tape = encoder.network.forward(input.views[0], pass)
        let z = tape.output  // (2n, D)
        let statistics = context.part(.loss) { loss.apply(z, shares: input.shares, context, keeping: &embeddings) }
        encoder.network.backward(z, tape, pass)  // z holds its gradient now
        return MethodOutcome(statistics: statistics, candidates: 2 * input.batch - 1)
      }
    }
  }
}
