import Engine
import Foundation
import Randomness
import Shards

/// The memory bank of Unsupervised Feature Learning via Non-Parametric Instance Discrimination. Wu, Xiong, Yu, Lin
/// 2018, arXiv:1805.01978; reference zhirongw/lemniscate.pytorch.
///
/// The bank has an embedding vᵢ of every image, updated each time that the image is seen. An image has one view, whose
/// embedding f is contrasted with K rows of the bank that are drawn for it; its own row is the positive:
///
///     P(i|f) = exp(vᵢ·f/τ)/Z,   vᵢ ← m·vᵢ + (1 − m)·f, then of length one (eq. 2 and 4; the code's m is 0.5)
///
/// Z is estimated from the first batch and then constant. The rows of the bank are distributed over the ranks.
///
/// Departs from the reference: the bank is updated after the optimizer's step instead of during backward, which gives
/// the same result; and if a batch has an image twice, its row is updated twice, in the order of the batch.
package struct MemoryBank: MethodRecipe {
  package static let name = "memory-bank"

  /// τ
  package var temperature = 0.07
  /// Widths of the head's layers, linear with bias and without BN.
  package var head: [HeadWidth] = [.channels(128)]
  /// K, drawn uniformly with replacement for every image of a batch; 0 for all rows of the bank.
  package var negatives = 4096
  /// m of the bank.
  package var momentum = 0.5
  /// Noise-contrastive estimation, or softmax cross-entropy over the positive and the negatives.
  package var loss = DrawnContrast.Loss.nce

  /// The defaults.
  package init() {}

  package func check() throws(RecipeError) {
    try require("temperature", temperature, temperature > 0, "above 0")
    try requireLayers("head", head)
    guard (0...1 << 24).contains(negatives) else {
      throw RecipeError("`negatives` is \(negatives); it must be 0 (the whole bank) to \(1 << 24)")
    }
    try require("momentum", momentum, 0 <= momentum && momentum < 1, "in [0, 1)")
    if negatives == 0, loss == .nce {
      throw RecipeError(
        "`negatives` is 0, the whole bank, which needs no estimate: set loss: softmax, or draw negatives")
    }
  }

  package func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String] {
    try stage.requireViews([1], by: Self.name, "one kind, count 1: the other view is in the bank")
    try stage.requireOnePart(because: "memory-bank takes a batch at once", instead: "more ranks, or moco")
    try stage.requireUnshuffled(
      because: "memory-bank has one encoder, and its positives come from other batches")
    var warnings: [String] = []
    if negatives >= images {
      warnings.append(
        "\(negatives) negatives are drawn from a bank of \(images) rows, so each comes up about "
          + "\(negatives / images) times; take fewer, or the whole bank with negatives: 0 and loss: softmax")
    }
    return warnings
  }

  package func remedy(_ symptom: Symptom) -> String {
    symptom == .guessing
      ? "lower optimizer.rate, or raise method.momentum; a run of few epochs learns little from a bank"
      : "lower optimizer.rate, or lengthen schedule.warmup"
  }

  package func heads(features: Int, classes: Int) -> [HeadPlan] {
    [HeadPlan(.head, head.plain(features: features))]
  }

  package func make(_ setting: MethodSetting) -> any Method { Running(self, setting) }

  final class Running: Method {
    let trained: [Trained]
    private(set) var embeddings: Embeddings?
    private let recipe: MemoryBank
    private let setting: MethodSetting
    private let groups: StepGroups
    /// v
    private let bank: SpreadRows
    /// Z; 0 before the first batch, and always with softmax.
    private let z = UnsafeMutableBufferPointer<Float>.allocate(capacity: 1)
    /// This step's f of all ranks, (B, D), their images, and Z, until `commit`.
    private var fresh: [Float] = []
    private var samples: [Int64] = []
    private var estimate: Float = 0

    private var dimension: Int { bank.dimension }

    init(_ recipe: MemoryBank, _ setting: MethodSetting) {
      self.recipe = recipe
      self.setting = setting
      groups = StepGroups(setting)
      trained = [setting.trained("encoder", recipe)]
      let dimension = trained[0].network.head(.head).outputs!
      bank = SpreadRows(count: setting.images, dimension: dimension, setting.context)
      embeddings = Embeddings(dimension: bank.dimension)
      z[0] = 0
    }

    deinit { z.deallocate() }

    var state: [SavedState] {
      [bank.saved("bank/values")] + (recipe.loss == .nce ? [SavedState("bank/z", shape: [1], floats: z)] : [])
    }

    /// Draws the rows uniformly in ± 1/√(D/3), so that their mean squared length is one.
    func initialise() {
      encoder.state.initialise(seed: setting.seed)
      let bound = 1 / (Double(dimension) / 3).squareRoot()
      for row in bank.rows {
        var draws = Draws(seed: setting.seed, .bank, UInt64(row))
        let values = bank[row]!
        for i in 0..<dimension { values[i] = Float(draws.uniform(in: -bound...bound)) }
      }
      z[0] = 0
    }

    func step(_ input: MethodInput) -> Outcome {
      let context = setting.context
      let k = recipe.negatives
      return context.scratch { arena in
        let pass = encoder.pass(context, groups(input, in: arena))
        let tape = encoder.network.forward(input.views[0], pass)
        let f = tape.output  // (n, D)
        let statistics = context.part(.loss) { contrast(f, input) }
        encoder.network.backward(f, tape, pass)  // f now holds its gradient
        return Outcome(
          statistics, candidates: k == 0 ? setting.images : k + 1,
          // NCE at P = 1/N: K + 1 binary decisions between data and noise.
          chance: recipe.loss == .nce ? log(Double(k + 1)) + Double(k) * log1p(1 / Double(k)) : nil)
      }
    }

    func commit() {
      z[0] = estimate
      let m = Float(recipe.momentum)
      for (i, sample) in samples.enumerated() {
        guard let v = bank[Int(sample)] else { continue }
        var squares = 0.0
        for j in 0..<dimension {
          v[j] = m * v[j] + (1 - m) * fresh[i * dimension + j]
          squares += Double(v[j]) * Double(v[j])
        }
        let norm = max(squares.squareRoot(), 1e-12)
        for j in 0..<dimension { v[j] = Float(Double(v[j]) / norm) }
      }
    }

    /// Applies the loss to all ranks' embeddings against the bank; f becomes the gradient of this rank's.
    private func contrast(_ f: Tensor, _ input: MethodInput) -> LossStatistics {
      let context = setting.context
      return context.scratch { arena in
        let unit = UnitRows(f, in: arena, context)
        embeddings?.keep(unit.rows, context)
        let queries = GatheredQueries(unit, shares: input.shares, in: arena, context)
        let images = gatherSamples(input, arena)
        if !context.isDry {
          fresh.replace(with: queries.all)
          samples.removeAll(keepingCapacity: true)
          samples.append(contentsOf: images)
        }
        if recipe.negatives == 0 { return overall(f, queries, images, arena) }
        let drawn = draw(input, images, arena)
        let loss = DrawnContrast(recipe.loss, temperature: Float(recipe.temperature), images: bank.count)
        let (statistics, z) = loss.apply(
          f, queries, .init(bank.tensor, rows: bank.rows), drawn: drawn, count: recipe.negatives + 1, z: z[0], context)
        estimate = z
        return statistics
      }
    }

    /// The image at every position of the global batch.
    private func gatherSamples(_ input: MethodInput, _ arena: Arena) -> UnsafeMutableBufferPointer<Int64> {
      let images = arena.array(of: Int64.self, count: input.batch)
      setting.context.run(1) { _, _ in
        images.update(repeating: 0)
        for (i, position) in input.positions.enumerated() { images[position] = Int64(input.samples[i]) }
      }
      setting.context.allReduce(images, on: .statistics, "images of the batch")
      return images
    }

    /// (B, 1 + K) indices of rows of the bank. The draws are keyed by (seed, step, position), so every rank computes
    /// all.
    private func draw(_ input: MethodInput, _ images: UnsafeMutableBufferPointer<Int64>, _ arena: Arena)
      -> UnsafePointer<Int64>
    {
      let k = recipe.negatives
      let count = bank.count
      let seed = setting.seed
      let drawn = arena.array(of: Int64.self, count: input.batch * (k + 1))
      setting.context.run(input.batch) { position, _ in
        let row = drawn.baseAddress! + position * (k + 1)
        row[0] = images[position]
        if let given = input.drawn {
          for c in 0..<k { row[1 + c] = Int64(given[position * k + c]) }
          return
        }
        var draws = Draws(seed: seed, .negatives, UInt64(input.step), UInt64(position))
        for c in 0..<k { row[1 + c] = Int64(draws.integer(below: count)) }
      }
      return UnsafePointer(drawn.baseAddress!)
    }

    /// Softmax over the whole bank.
    private func overall(
      _ f: Tensor, _ queries: GatheredQueries, _ images: UnsafeMutableBufferPointer<Int64>, _ arena: Arena
    ) -> LossStatistics {
      let targets = arena.array(of: Int32.self, count: images.count)
      let rows = bank.rows
      setting.context.run(1) { _, _ in
        for (i, image) in images.enumerated() {
          targets[i] = rows.contains(Int(image)) ? Int32(Int(image) - rows.lowerBound) : -1
        }
      }
      let candidates = SpreadInfoNCE.Candidates(bank.tensor, keys: 0, otherKeys: false, targets: targets)
      return SpreadInfoNCE(temperature: Float(recipe.temperature)).apply(f, queries, candidates, setting.context)
        .statistics
    }
  }
}
