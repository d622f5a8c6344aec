import Engine
import Shards

/// The end-to-end mechanism that MoCo is held against. He et al. 2019, arXiv:1911.05722, figure 2a and section 3.2: two
/// encoders, both trained; the dictionary is the keys of the global batch. No code of it was published.
///
/// The key encoder starts as a copy of the query encoder, and its keys are encoded under ShuffleBN.
package struct EndToEnd: MethodRecipe {
  package static let name = "end-to-end"

  /// τ
  package var temperature = 0.07
  /// Widths of the head's layers, linear with bias and without BN.
  package var head: [HeadWidth] = [.channels(128)]

  private enum CodingKeys: String, CodingKey, CaseIterable { case temperature, head }

  package init() {}

  package init(from decoder: any Decoder) throws {
    let values = try decoder.strict(CodingKeys.self, of: "end-to-end", besides: ["name"])
    temperature = try values.value(.temperature, default: temperature)
    head = try values.value(.head, default: head)
    guard temperature > 0, !head.isEmpty else {
      throw decoder.invalid("temperature must be above 0, and the head needs a layer")
    }
  }

  package func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String] {
    guard stage.views.count == 1, stage.views[0].count == 2 else {
      throw RecipeError(
        "end-to-end: views have counts \(stage.views.map(\.count)); it takes one kind, count 2: query and key")
    }
    if stage.accumulate > 1 {
      throw RecipeError(
        "accumulate is \(stage.accumulate), but end-to-end's negatives are the other images of the batch, so its parts "
          + "would be another loss; use more ranks, or moco")
    }
    return StepGroups.leaks(Self.name, stage)
  }

  package func make(_ setting: MethodSetting) -> any Method { Running(self, setting) }

  final class Running: Method {
    let trained: [Trained]
    let dimension: Int
    private(set) var embeddings: [Float] = []
    private let loss: BatchInfoNCE
    private let setting: MethodSetting
    private let groups: StepGroups

    private var query: Trained { trained[0] }
    private var key: Trained { trained[1] }

    init(_ recipe: EndToEnd, _ setting: MethodSetting) {
      self.setting = setting
      let layers = recipe.head.plain(features: setting.encoder.features)
      let network = Network(setting.encoder, head: layers)
      trained = [Trained("query", network, setting.context), Trained("key", network, setting.context)]
      dimension = layers.last!.outputs
      loss = BatchInfoNCE(temperature: Float(recipe.temperature))
      groups = StepGroups(setting)
    }

    func initialise() {
      query.state.initialise(seed: setting.seed)
      key.state.copy(query.state)
    }

    func adoptEncoder() { key.state.copy(query.state) }

    func step(_ input: MethodInput) -> MethodOutcome {
      let context = setting.context
      let n = input.count
      let images = input.views[0]
      return context.scratch { arena in
        let queryPass = query.pass(context, groups(input, in: arena))
        let keyPass = key.pass(context, groups(input, shuffled: true, in: arena))
        let queryTape = query.network.forward(images.images(0..<n), queryPass)
        let keyTape = key.network.forward(images.images(n..<2 * n), keyPass)
        let q = queryTape.output
        let k = keyTape.output
        let statistics = context.part(.loss) {
          loss.apply(q, keys: k, shares: input.shares, context, keeping: &embeddings)
        }
        key.network.backward(k, keyTape, keyPass)  // q and k hold their gradients now
        query.network.backward(q, queryTape, queryPass)
        return MethodOutcome(statistics: statistics, candidates: input.batch)
      }
    }
  }
}
