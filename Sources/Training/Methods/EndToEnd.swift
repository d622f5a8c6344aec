import Engine
import Shards

/// The end-to-end mechanism that MoCo is compared with. He et al. 2019, arXiv:1911.05722, figure 2a and section 3.2:
/// two trained encoders, and the keys of the global batch as the dictionary. Its code was not published.
///
/// The key encoder starts as a copy of the query encoder, and its keys are encoded under ShuffleBN.
package struct EndToEnd: MethodRecipe {
  package static let name = "end-to-end"

  /// τ
  package var temperature = 0.07
  /// Widths of the head's layers, linear with bias and without BN.
  package var head: [HeadWidth] = [.channels(128)]

  /// The defaults.
  package init() {}

  package func check() throws(RecipeError) {
    try require("temperature", temperature, temperature > 0, "above 0")
    try requireLayers("head", head)
  }

  package func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String] {
    try stage.requireViews([2], by: Self.name, "one kind, count 2: query and key")
    try stage.requireOnePart(
      because: "end-to-end's negatives are the other images of the batch, so its parts would be another loss",
      instead: "more ranks, or moco")
    return StepGroups.leaks(Self.name, stage)
  }

  package func heads(features: Int, classes: Int) -> [HeadPlan] {
    [HeadPlan(.head, head.plain(features: features))]
  }

  package func make(_ setting: MethodSetting) -> any Method { Running(self, setting) }

  final class Running: Method {
    let trained: [Trained]
    private(set) var embeddings: Embeddings?
    private let loss: BatchInfoNCE
    private let setting: MethodSetting
    private let groups: StepGroups

    private var query: Trained { trained[0] }
    private var key: Trained { trained[1] }

    init(_ recipe: EndToEnd, _ setting: MethodSetting) {
      self.setting = setting
      trained = [setting.trained("query", recipe), setting.trained("key", recipe)]
      embeddings = Embeddings(dimension: trained[0].network.head(.head).outputs!)
      loss = BatchInfoNCE(temperature: Float(recipe.temperature))
      groups = StepGroups(setting)
    }

    func initialise() {
      query.state.initialise(seed: setting.seed)
      key.state.copy(query.state)
    }

    func adoptEncoder() { key.state.copy(query.state) }

    func step(_ input: MethodInput) -> Outcome {
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
          context.scratch { arena in
            let unit = UnitRows(q, in: arena, context)
            embeddings?.keep(unit.rows, context)
            return loss.apply(q, unit, keys: k, shares: input.shares, context)
          }
        }
        key.network.backward(k, keyTape, keyPass)  // q and k hold their gradients now
        query.network.backward(q, queryTape, queryPass)
        return Outcome(statistics, candidates: input.batch)
      }
    }
  }
}
