import Engine
import Shards

/// SimCLR: A Simple Framework for Contrastive Learning of Visual Representations.
/// Chen, Kornblith, Norouzi, Hinton 2020, arXiv:2002.05709; reference google-research/simclr.
/// v2: Big Self-Supervised Models are Strong Semi-Supervised Learners. Chen, Kornblith, Swersky, Norouzi, Hinton 2020,
/// arXiv:2006.10029: another encoder (`variant: d`, `selectiveKernels`), a head of three layers, and a memory.
///
/// Both views go through encoder and head in one BN batch, and NT-Xent uses the embeddings of all ranks. The head
/// follows `tf2/model.py`: linear layers without bias, each with BN; the last BN has no shift.
///
/// The memory is not in the published code. The paper (section 2) describes it as MoCo's: a moving average of the
/// network, whose outputs are buffered as additional negatives. The paper leaves details open. Here the keys of both
/// views are buffered at the end of their step; they are encoded in the same BN groups as the queries, with their own
/// statistics.
package struct SimCLR: MethodRecipe {
  package static let name = "simclr"

  /// τ. The paper: 0.1 at ImageNet scale, 0.5 on CIFAR-10.
  package var temperature = 0.1
  /// Widths of the head's layers; v1 has two, v2 three.
  package var head: [HeadWidth] = [.features, .channels(128)]
  /// Standard deviation of the head's initial weights. The default with LARS, whose steps do not depend on the size of
  /// the weights, is the reference's 0.01; with other optimizers uniform of deviation 1/√(3 · inputs).
  package var headDeviation: Double?
  private static let larsDeviation = 0.01
  /// Factor on the loss. The reference code computes twice the paper's loss.
  package var lossScale = 1.0
  /// Whether both views are in one BN batch, as in the reference.
  package var viewsShareBatch = true
  /// v2's additional negatives; nil for those of the batch alone.
  package var memory: Memory?

  /// A queue of keys of a momentum encoder.
  package struct Memory: Options, Sendable {
    /// Name in error messages.
    package static let title = "simclr's memory"

    /// Number of keys in the queue. Each step adds two per image.
    package var queue = 65536
    /// m
    package var momentum = 0.999

    /// The defaults.
    package init() {}

    package func check() throws(RecipeError) {
      try require("queue", queue, in: 1...1 << 26)
      try require("momentum", momentum, 0 <= momentum && momentum < 1, "in [0, 1)")
    }
  }

  /// The defaults.
  package init() {}

  package func check() throws(RecipeError) {
    try require("temperature", temperature, temperature > 0, "above 0")
    if let headDeviation { try require("headDeviation", headDeviation, headDeviation > 0, "above 0") }
    try require("lossScale", lossScale, lossScale > 0, "above 0")
    try requireLayers("head", head)
  }

  package func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String] {
    try stage.requireViews([2], by: Self.name, "one kind of view, count 2")
    try stage.requireOnePart(
      because: "simclr's negatives are the other images of the batch, so its parts would be another loss",
      instead: "more ranks, or moco")
    try stage.requireUnshuffled(because: "simclr has one encoder for both views")
    var warnings: [String] = []
    if case .group = stage.batchNorm.groups {
      warnings.append(
        "simclr with fixed BN groups leaks: the two views of an image share statistics with few others, so the pretext "
          + "task gets easy; batchNorm: global is the paper's")
    }
    if let headDeviation, headDeviation <= Self.larsDeviation, !(stage.optimizer.algorithm is LARS) {
      warnings.append(
        "method.headDeviation is \(headDeviation), which goes with LARS; \(type(of: stage.optimizer.algorithm).name) "
          + "leaves so small a head behind: leave headDeviation out, or take 0.05")
    }
    if let memory, memory.queue >= 2 * images {
      warnings.append(
        "the memory of \(memory.queue) keys holds both views of each of the \(images) images about "
          + "\(memory.queue / images / 2) times, so old keys of an image are its own negatives; take a shorter queue")
    }
    return warnings
  }

  package func remedy(_ symptom: Symptom) -> String {
    switch symptom {
    case .guessing: "lower optimizer.rate or lengthen schedule.warmup; with a small batch also raise method.temperature"
    case .point, .line, .prototypes: "lower optimizer.rate, or raise method.headDeviation"
    }
  }

  package func completed(for optimizer: any Optimizer) -> SimCLR {
    var completed = self
    if optimizer is LARS { completed.headDeviation = headDeviation ?? Self.larsDeviation }
    return completed
  }

  /// The head's layers, for an encoder of so many features.
  private func layers(features: Int) -> [Head.Layer] {
    head.enumerated().map { i, width in
      let isLast = i == head.count - 1
      return Head.Layer(
        width.resolved(features: features), bias: false, isLast ? .scale : .scaleAndShift, relu: !isLast,
        weight: headDeviation.map(Initialisation.normal))
    }
  }

  package func heads(features: Int, classes: Int) -> [HeadPlan] {
    [HeadPlan(.head, layers(features: features))]
  }

  package func make(_ setting: MethodSetting) -> any Method { Running(self, setting) }

  final class Running: Method {
    let trained: [Trained]
    private(set) var embeddings: Embeddings?
    /// D of an embedding.
    private let dimension: Int
    private let loss: NTXent
    private let recipe: SimCLR
    private let setting: MethodSetting
    private let groups: StepGroups
    private let memory: (key: MomentumEncoder, queue: KeyQueue)?
    /// This step's keys for the memory, (2B, D); `commit` enqueues them.
    private var fresh: [Float] = []

    init(_ recipe: SimCLR, _ setting: MethodSetting) {
      self.recipe = recipe
      self.setting = setting
      groups = StepGroups(setting)
      let encoder = setting.trained("encoder", recipe)
      let dimension = encoder.network.head(.head).outputs!
      trained = [encoder]
      self.dimension = dimension
      embeddings = Embeddings(dimension: dimension)
      memory = recipe.memory.map {
        (MomentumEncoder(of: encoder, momentum: $0.momentum), KeyQueue(count: $0.queue, dimension: dimension))
      }
      loss = NTXent(temperature: Float(recipe.temperature), scale: Float(recipe.lossScale))
    }

    func initialise() {
      encoder.state.initialise(seed: setting.seed)
      memory?.key.start(from: encoder)
      memory?.queue.initialise(seed: setting.seed)
    }

    func adoptEncoder() { memory?.key.start(from: encoder) }

    var state: [SavedState] { memory.map { $0.key.saved + $0.queue.saved } ?? [] }

    func step(_ input: MethodInput) -> Outcome {
      let context = setting.context
      return context.scratch { arena in
        let groups = groups(input, views: 2, shared: recipe.viewsShareBatch, in: arena)
        if let memory { encodeKeys(input, memory.key, groups) }
        let pass = encoder.pass(context, groups)
        let tape = encoder.network.forward(input.views[0], pass)
        let z = tape.output  // (2n, D)
        let statistics = context.part(.loss) { contrast(z, input) }
        encoder.network.backward(z, tape, pass)  // z now holds its gradient
        return Outcome(
          statistics, candidates: 2 * input.batch - 1 + (memory?.queue.count ?? 0), scale: recipe.lossScale)
      }
    }

    /// Applies the loss; z, (2n, D), becomes its gradient.
    private func contrast(_ z: Tensor, _ input: MethodInput) -> LossStatistics {
      let context = setting.context
      return context.scratch { arena in
        let unit = UnitRows(z, in: arena, context)
        embeddings?.keep(unit.rows, context)
        return loss.apply(z, unit, shares: input.shares, queue: memory?.queue.tensor, context)
      }
    }

    func commit() {
      memory?.key.follow(encoder)
      memory?.queue.enqueue(fresh)
    }

    /// Gathers the momentum encoder's normalised embeddings of all ranks: all first views in the order of the global
    /// batch, then all second views. Without gradient.
    private func encodeKeys(_ input: MethodInput, _ key: MomentumEncoder, _ groups: BatchGroups) {
      let context = setting.context
      context.scratch { arena in
        let k = arena.tensor(n: input.views[0].n, c: dimension)
        key.encode(input.views[0], into: k, groups, context)
        context.collect(k, shares: input.shares, views: 2, into: &fresh, "keys")
      }
    }
  }
}
