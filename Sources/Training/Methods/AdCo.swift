import Engine
import Foundation
import Randomness
import Shards

/// AdCo: Adversarial Contrast for Efficient Learning of Unsupervised Representations from Self-Trained Negative
/// Adversaries. Hu, Wang, Hu, Qi 2020, arXiv:2011.08435; reference maple-research-lab/AdCo.
///
/// The negatives W are learned: the network minimises the contrastive loss and W maximises it, with its own rate,
/// momentum and temperature (eq. 4 to 6). W is stored without normalisation, and normalised for use, ŵ = w/‖w‖:
///
///     L    = −1/B Σ_i log( exp(q_i·k_i/τ) / (Σ_j exp(q_i·k_j/τ) + Σ_k exp(q_i·ŵ_k/τ)) )
///     g_k  = −∂L/∂w_k at τ′ = −1/(τ′‖w_k‖) · ( 1/B Σ_i p_ik q_i − 1/B Σ_i p_ik (q_i·ŵ_k) ŵ_k )
///     v ← m·v + g + λW,   W ← W − η·v
///
/// Views of further kinds are additional queries against the same keys. Their losses are summed for the gradient; the
/// reported loss is the mean over queries, comparable with ln(candidates). With the symmetric loss both views are
/// queries, at half the weight. The rows of W are distributed over the ranks; their gradient needs the queries of all
/// ranks and nothing else.
///
/// Departs from the reference: the momentum update comes after the optimizer's at the end of a step instead of before
/// the next step's keys; the steps that fill W are part of the run and of its schedule, and use all queries; ShuffleBN
/// as in `MoCo`, with one order for both views.
package struct AdCo: MethodRecipe {
  package static let name = "adco"

  /// τ of the network's loss.
  package var temperature = 0.12
  /// Widths of the head's layers, linear with bias and without BN.
  package var head: [HeadWidth] = [.features, .channels(128)]
  /// m of the key encoder.
  package var momentum = 0.999
  /// K, rows of W.
  package var negatives = 65536
  /// τ′ of W's loss.
  package var bankTemperature = 0.02
  /// η of W. A row's gradient is proportional to its probability, about 1/K, so choose η in proportion to K.
  package var bankRate = 3.0
  /// m of W.
  package var bankMomentum = 0.9
  /// λ of W.
  package var bankDecay = 1e-4
  /// Whether the keys of the batch's other images are also negatives.
  package var inBatch = true
  /// Whether both views are queries.
  package var symmetric = false
  /// Whether the first K/B steps train against the random W and then replace it with their keys.
  package var fill = true

  /// The defaults.
  package init() {}

  package func check() throws(RecipeError) {
    try require("temperature", temperature, temperature > 0, "above 0")
    try require("bankTemperature", bankTemperature, bankTemperature > 0, "above 0")
    try requireLayers("head", head)
    try require("negatives", negatives, in: 1...1 << 26)
    for (key, value) in [("momentum", momentum), ("bankMomentum", bankMomentum)] {
      try require(key, value, 0 <= value && value < 1, "in [0, 1)")
    }
    for (key, value) in [("bankRate", bankRate), ("bankDecay", bankDecay)] {
      try require(key, value, value >= 0, "at least 0")
    }
  }

  package func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String] {
    guard stage.views[0].count == 2 else {
      throw RecipeError(
        "adco: views have counts \(stage.views.map(\.count)); its first kind is the query and the key, count 2")
    }
    if symmetric, stage.views.count > 1 {
      throw RecipeError(
        "adco: it is symmetric, but there are \(stage.views.count) kinds of views; "
          + "further queries have no keys of their own")
    }
    try stage.requireOnePart(because: "adco takes a batch at once", instead: "more ranks, or moco")
    var warnings: [String] = []
    if fill {
      let steps = (negatives + stage.batch - 1) / stage.batch
      let all = stage.length.steps(stepsPerEpoch: max(1, images / stage.batch), batch: stage.batch, total: 0)
      if steps >= all {
        warnings.append(
          "filling the \(negatives) negatives takes \(steps) steps of \(stage.batch) images, and the run has \(all): "
            + "they never learn; take fewer, or fill: false")
      }
      if negatives >= images {
        warnings.append(
          "the \(negatives) negatives start as keys of \(images) images, about \(negatives / images) of each; "
            + "take fewer"
        )
      }
    }
    return warnings + StepGroups.leaks(Self.name, stage)
  }

  package func remedy(_ symptom: Symptom) -> String {
    symptom == .guessing
      ? "the negatives have won; lower method.bankRate, or raise method.bankTemperature"
      : "lower method.bankRate, in proportion to method.negatives, or optimizer.rate"
  }

  package func heads(features: Int, classes: Int) -> [HeadPlan] {
    [HeadPlan(.head, head.plain(features: features))]
  }

  package func make(_ setting: MethodSetting) -> any Method { Running(self, setting) }

  final class Running: Method {
    let trained: [Trained]
    private(set) var embeddings: Embeddings?
    private let recipe: AdCo
    private let setting: MethodSetting
    private let loss: SpreadInfoNCE
    private let groups: StepGroups
    private let key: MomentumEncoder
    /// W
    private let negatives: SpreadRows
    /// v
    private let velocity: SpreadRows
    /// ∂L/∂W at τ′.
    private let gradient: SpreadRows
    /// Rows of W that have been filled with keys.
    private let filled = UnsafeMutableBufferPointer<Int64>.allocate(capacity: 1)
    /// This step's keys of all ranks, (B, D), while W is being filled.
    private var fresh: [Float] = []
    /// Number of views of each further kind. Kept between steps, because a rank without images in a small batch cannot
    /// derive it.
    private var further: [Int] = []

    private var query: Trained { trained[0] }
    private var dimension: Int { negatives.dimension }
    private var isFilling: Bool { recipe.fill && filled[0] < Int64(negatives.count) }

    init(_ recipe: AdCo, _ setting: MethodSetting) {
      self.recipe = recipe
      self.setting = setting
      trained = [setting.trained("query", recipe)]
      let d = trained[0].network.head(.head).outputs!
      groups = StepGroups(setting)
      key = MomentumEncoder(of: trained[0], momentum: recipe.momentum)
      loss = SpreadInfoNCE(temperature: Float(recipe.temperature))
      negatives = SpreadRows(count: recipe.negatives, dimension: d, setting.context)
      velocity = SpreadRows(count: recipe.negatives, dimension: d, setting.context)
      gradient = SpreadRows(count: recipe.negatives, dimension: d, setting.context)
      embeddings = Embeddings(dimension: d)
      filled[0] = 0
    }

    deinit { filled.deallocate() }

    /// Draws W from the standard normal distribution.
    func initialise() {
      query.state.initialise(seed: setting.seed)
      key.start(from: query)
      for row in negatives.rows {
        var draws = Draws(seed: setting.seed, .bank, UInt64(row))
        let values = negatives[row]!
        for i in 0..<dimension { values[i] = Float(draws.normal()) }
      }
      velocity.zero()
      filled[0] = 0
    }

    func adoptEncoder() { key.start(from: query) }

    var state: [SavedState] {
      key.saved + [negatives.saved("negatives/values"), velocity.saved("negatives/velocity")]
        + (recipe.fill ? [SavedState("negatives/filled", integers: filled)] : [])
    }

    var unsavedBytes: Int { gradient.tensor.bytes }

    func step(_ input: MethodInput) -> Outcome {
      let context = setting.context
      let n = input.count
      let views = input.views[0]
      let first = views.images(0..<n)
      let second = views.images(n..<2 * n)
      if n > 0 { countFurther(input) }
      if !context.isDry { gradient.zero() }
      return context.scratch { arena in
        // This rank's candidates: the keys of its images, then its rows of Ŵ.
        let candidates = arena.tensor(n: n + negatives.rows.count, c: dimension)
        let k = candidates.images(0..<n)
        let unit = candidates.images(n..<candidates.n)
        let norms = arena.array(of: Float.self, count: max(1, unit.n)).baseAddress!
        L2Normalise.forward(negatives.tensor, into: unit, norms: norms, context)
        encodeKeys(second, into: k, input)
        collect(k, input)
        var sums = Sums()
        var left = further.reduce(recipe.symmetric ? 1 : 0, +)
        contrast(first, candidates, reduces: left == 0, input, &sums)
        if recipe.symmetric {
          encodeKeys(first, into: k, input)
          contrast(second, candidates, reduces: true, input, &sums)
        }
        for (kind, count) in further.enumerated() {
          for view in 0..<count {
            left -= 1
            contrast(
              input.views[kind + 1].images(view * n..<(view + 1) * n), candidates, reduces: left == 0, input, &sums)
          }
        }
        // Backward of the normalisation; without it, W would only grow.
        L2Normalise.backward(gradient.tensor, unit: unit, norms: norms, context)
        let others = recipe.inBatch && !isFilling ? input.batch : 1
        var outcome = Outcome(sums.statistics, candidates: others + negatives.count)
        if recipe.inBatch { outcome.figures[.inBatch] = sums.inBatch / max(1, sums.statistics.rows) }
        return outcome
      }
    }

    func commit() {
      key.follow(query)
      if isFilling {
        enqueue()
      } else {
        climb()
      }
    }

    /// Sums over the queries of a step.
    private struct Sums {
      var statistics = LossStatistics()
      var inBatch = 0.0
    }

    /// Forward and backward with one view as queries.
    private func contrast(
      _ images: Tensor, _ candidates: Tensor, reduces: Bool, _ input: MethodInput, _ sums: inout Sums
    ) {
      let context = setting.context
      context.scratch { arena in
        let pass = query.pass(context, groups(input, in: arena), reduces: reduces)
        let tape = query.network.forward(images, pass)
        let q = tape.output
        let (statistics, inBatch) = context.part(.loss) { apply(q, candidates, input) }
        query.network.backward(q, tape, pass)  // q now holds its gradient
        sums.statistics.add(statistics)
        sums.inBatch += inBatch
      }
    }

    /// Applies the loss to one view's queries; q becomes their gradient.
    private func apply(
      _ q: Tensor, _ candidates: Tensor, _ input: MethodInput
    ) -> (statistics: LossStatistics, inBatch: Double) {
      let context = setting.context
      let n = input.count
      return context.scratch { arena in
        let unit = UnitRows(q, in: arena, context)
        embeddings?.keep(unit.rows, context)
        let queries = GatheredQueries(unit, shares: input.shares, in: arena, context)
        let targets = arena.array(of: Int32.self, count: input.batch)
        context.run(1) { _, _ in
          targets.update(repeating: -1)
          for i in 0..<n { targets[queries.own.lowerBound + i] = Int32(i) }
        }
        // While W is being filled it is not trained. The dry run plans for the later, larger case.
        let trains = !isFilling || context.isDry
        return loss.apply(
          q, queries, .init(candidates, keys: n, otherKeys: recipe.inBatch && trains, targets: targets),
          weight: recipe.symmetric ? 0.5 : 1,
          adversary: trains ? .init(temperature: Float(recipe.bankTemperature), gradient: gradient.tensor) : nil,
          context)
      }
    }

    private func encodeKeys(_ images: Tensor, into k: Tensor, _ input: MethodInput) {
      setting.context.scratch { arena in
        key.encode(images, into: k, groups(input, shuffled: true, in: arena), setting.context)
      }
    }

    private func countFurther(_ input: MethodInput) {
      further.removeAll(keepingCapacity: true)
      for view in input.views.dropFirst() { further.append(view.n / input.count) }
    }

    // MARK: The negatives

    /// While W is being filled, keeps the keys of all ranks for it.
    private func collect(_ k: Tensor, _ input: MethodInput) {
      guard isFilling || setting.context.isDry else { return }
      setting.context.collect(k, shares: input.shares, into: &fresh, "keys")
    }

    /// Writes the keys to the next rows of W. After the last row the key encoder copies the query encoder's parameters.
    private func enqueue() {
      let from = Int(filled[0])
      let to = min(from + fresh.count / dimension, negatives.count)
      for row in from..<to {
        guard let w = negatives[row] else { continue }
        for i in 0..<dimension { w[i] = fresh[(row - from) * dimension + i] }
      }
      filled[0] = Int64(to)
      if to == negatives.count { key.catchUp(with: query) }
    }

    /// v ← m·v + g + λW, W ← W − η·v, where g is the negative gradient of the loss.
    private func climb() {
      let w = negatives.tensor
      let v = velocity.tensor.data
      let d = gradient.tensor.data
      let m = Float(recipe.bankMomentum)
      let rate = Float(recipe.bankRate)
      let decay = Float(recipe.bankDecay)
      let values = w.data
      setting.context.elementwise(w.count) { range in
        for i in range {
          v[i] = m * v[i] - d[i] + decay * values[i]
          values[i] -= rate * v[i]
        }
      }
    }
  }
}
