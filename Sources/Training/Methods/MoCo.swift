import Engine
import Shards

/// MoCo v2: Improved Baselines with Momentum Contrastive Learning. Chen, Fan, Girshick, He 2020, arXiv:2003.04297, on
/// Momentum Contrast, He et al. 2019, arXiv:1911.05722, Algorithm 1; reference facebookresearch/moco,
/// `moco/builder.py`.
///
/// Departs from the reference: the momentum update comes after the optimizer's at the end of a step instead of before
/// the next step's keys, which gives the same keys because the reference's first update has no effect; the queue wraps
/// around at any length; ShuffleBN draws which images share BN statistics and exchanges the statistics instead of the
/// images (see `NormalisationGroups.shuffle`).
package struct MoCo: MethodRecipe {
  package static let name = "moco"

  /// τ: v2 0.2, v1 0.07.
  package var temperature = 0.2
  /// Widths of the head's layers, linear with bias and without BN. v2: features, 128; v1: 128.
  package var head: [HeadWidth] = [.features, .channels(128)]
  /// Number of keys in the queue.
  package var queue = 65536
  /// m
  package var momentum = 0.999
  /// Whether both views are queries, each against the other view's key. The loss is the mean of the two directions.
  package var symmetric = false
  /// Factor on the loss. 2 corresponds to the authors' CIFAR notebook, which adds the two directions.
  package var lossScale = 1.0

  /// The defaults.
  package init() {}

  package func check() throws(RecipeError) {
    try require("temperature", temperature, temperature > 0, "above 0")
    try require("lossScale", lossScale, lossScale > 0, "above 0")
    try requireLayers("head", head)
    guard (1...1 << 26).contains(queue) else {
      throw RecipeError("`queue` is \(queue); it must be 1 to \(1 << 26) keys")
    }
    try require("momentum", momentum, 0 <= momentum && momentum < 1, "in [0, 1)")
  }

  package func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String] {
    try stage.requireViews([2], by: Self.name, "one kind, count 2: query and key")
    if symmetric {
      try stage.requireOnePart(
        because: "symmetric moco takes both views at once", instead: "more ranks, or symmetric: false")
    }
    if stage.batchNorm.groups == .global {
      try stage.requireOnePart(
        because: "with batchNorm global the statistics are the whole batch's and its parts would have others",
        instead: "batchNorm: {shuffle: IMAGES}")
    }
    var warnings: [String] = []
    if queue >= images {
      warnings.append(
        "the queue of \(queue) keys is as long as the \(images) images or longer, so old keys of an image are its own "
          + "negatives; take a shorter queue")
    }
    return warnings + StepGroups.leaks(Self.name, stage)
  }

  package func remedy(_ symptom: Symptom) -> String {
    switch symptom {
    case .guessing:
      "keys that change faster than the queue cannot be learned: raise method.momentum, or lower optimizer.rate"
    case .point, .line, .prototypes: "lower optimizer.rate, raise method.momentum, or take batchNorm: {shuffle: 32}"
    }
  }

  package func heads(features: Int, classes: Int) -> [HeadPlan] {
    [HeadPlan(.head, head.plain(features: features))]
  }

  package func make(_ setting: MethodSetting) -> any Method { Running(self, setting) }

  final class Running: Method {
    let trained: [Trained]
    private(set) var embeddings: Embeddings?
    private let recipe: MoCo
    private let setting: MethodSetting
    private let loss: InfoNCE
    private let key: MomentumEncoder
    private let queue: KeyQueue
    /// This step's keys, (B, D); `commit` enqueues them.
    private var fresh: [Float] = []
    private let groups: StepGroups

    private var query: Trained { trained[0] }
    private var dimension: Int { queue.dimension }

    init(_ recipe: MoCo, _ setting: MethodSetting) {
      self.recipe = recipe
      self.setting = setting
      trained = [setting.trained("query", recipe)]
      key = MomentumEncoder(of: trained[0], momentum: recipe.momentum)
      loss = InfoNCE(temperature: Float(recipe.temperature), scale: Float(recipe.lossScale))
      groups = StepGroups(setting)
      queue = KeyQueue(count: recipe.queue, dimension: trained[0].network.head(.head).outputs!)
      embeddings = Embeddings(dimension: queue.dimension)
    }

    func initialise() {
      query.state.initialise(seed: setting.seed)
      key.start(from: query)
      queue.initialise(seed: setting.seed)
    }

    func adoptEncoder() { key.start(from: query) }

    var state: [SavedState] { key.saved + queue.saved }

    func step(_ input: MethodInput) -> Outcome {
      recipe.symmetric ? stepBothWays(input) : stepOneWay(input)
    }

    /// The first view is the query, the second the key.
    private func stepOneWay(_ input: MethodInput) -> Outcome {
      let context = setting.context
      let n = input.count
      let images = input.views[0]
      return context.scratch { arena in
        let k = arena.tensor(n: n, c: dimension)
        encodeKeys(images.images(n..<2 * n), into: k, input)
        collect(k, input)
        var statistics = LossStatistics()
        setting.forEachPart(of: n) { part, range, arena in
          let pass = query.pass(context, groups(input, in: arena).images(range), part: part, of: setting.accumulate)
          let tape = query.network.forward(images.images(range), pass)
          let q = tape.output
          statistics.add(contrast(q, keys: k.images(range), count: input.batch))
          query.network.backward(q, tape, pass)  // q now holds its gradient
        }
        return Outcome(statistics, candidates: queue.count + 1, scale: recipe.lossScale)
      }
    }

    /// Both views are queries and keys; each view has its own BN batches.
    private func stepBothWays(_ input: MethodInput) -> Outcome {
      let context = setting.context
      let n = input.count
      return context.scratch { arena in
        let k = arena.tensor(n: 2 * n, c: dimension)
        let others = arena.tensor(n: 2 * n, c: dimension)
        encodeKeys(input.views[0], into: k, input)
        collect(k, input)
        context.run(2) { view, _ in
          let other = others.images((1 - view) * n..<(2 - view) * n)
          other.data.update(from: k.images(view * n..<(view + 1) * n).data, count: other.count)
        }
        let pass = query.pass(context, groups(input, views: 2, shared: false, in: arena))
        let tape = query.network.forward(input.views[0], pass)
        let q = tape.output
        let statistics = contrast(q, keys: others, count: 2 * input.batch)
        query.network.backward(q, tape, pass)
        return Outcome(statistics, candidates: queue.count + 1, scale: recipe.lossScale)
      }
    }

    /// Applies the loss; q, (n, D), becomes its gradient.
    private func contrast(_ q: Tensor, keys: Tensor, count: Int) -> LossStatistics {
      let context = setting.context
      return context.part(.loss) {
        context.scratch { arena in
          let unit = UnitRows(q, in: arena, context)
          embeddings?.keep(unit.rows, context)
          return loss.apply(q, unit, keys: keys, queue: queue.tensor, count: count, context)
        }
      }
    }

    func commit() {
      key.follow(query)
      queue.enqueue(fresh)
    }

    private func encodeKeys(_ images: Tensor, into k: Tensor, _ input: MethodInput) {
      setting.context.scratch { arena in
        let groups = groups(input, views: recipe.symmetric ? 2 : 1, shared: false, shuffled: true, in: arena)
        key.encode(images, into: k, groups, setting.context)
      }
    }

    /// Gathers the keys of all ranks, ordered by view, then by position in the global batch.
    private func collect(_ k: Tensor, _ input: MethodInput) {
      setting.context.collect(k, shares: input.shares, views: recipe.symmetric ? 2 : 1, into: &fresh, "keys")
    }
  }
}
