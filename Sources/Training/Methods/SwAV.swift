import Engine
import Foundation
import Ranks
import Shards

/// SwAV: Unsupervised Learning of Visual Features by Contrasting Cluster Assignments. Caron et al. 2020,
/// arXiv:2006.09882; reference facebookresearch/swav, `main_swav.py`.
///
/// The crops of the first kind of view are assigned to prototypes, and every crop predicts the assignments of the
/// others. In the encoder the crops of one kind share a BN batch, as the reference encodes crops of one size together.
/// The head runs once, on the features of all crops in the order of the crops (`src/resnet50.py`, `forward`).
///
/// Departs from the reference: its queues are a rank's own, ours hold the global batch's embeddings in order, so that
/// they are the same on any number of ranks.
package struct SwAV: MethodRecipe {
  package static let name = "swav"
  /// Crops that are assigned to prototypes.
  private static let assigned = 2

  /// τ of the predictions.
  package var temperature = 0.1
  /// Widths of the head's layers, linear with bias; all but the last with BN and ReLU.
  package var head: [HeadWidth] = [.channels(2048), .channels(128)]
  /// K
  package var prototypes = 3000
  /// ε of the assignments: smaller is sharper.
  package var epsilon = 0.05
  /// Of Sinkhorn and Knopp's scaling.
  package var iterations = 3
  /// How long the prototypes stay as they are drawn: 313 steps of 4096 images, 5005 of 256.
  package var freeze = Length.steps(313)
  /// Embeddings of earlier batches that are assigned with each crop's, for small batches (3840 of 256); 0 for none.
  package var queue = 0
  /// When the queue begins to fill; it is used once it is full.
  package var queueFrom = Length.epochs(15)
  /// Which crops share a BN batch in the head.
  package var headBatch = HeadBatch.all

  package enum HeadBatch: String, Codable, CaseIterable, Sendable {
    /// All crops: the reference's.
    case all
    /// The crops of one kind, as in the encoder; the running statistics then move once for each kind.
    case kind
  }

  package init() {}

  package func check() throws(RecipeError) {
    try require("temperature", temperature, temperature > 0, "above 0")
    try require("epsilon", epsilon, epsilon > 0, "above 0")
    try requireLayers("head", head)
    try require("prototypes", prototypes, in: 2...1 << 20)
    try require("iterations", iterations, in: 1...1000)
    try require("queue", queue, in: 0...1 << 26)
  }

  package func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String] {
    guard let first = stage.views.first, first.count == Self.assigned else {
      throw RecipeError(
        "swav: the first kind of view has count \(stage.views.first?.count ?? 0); it must be 2, the crops that are "
          + "assigned; further kinds are at will")
    }
    try stage.requireOnePart(because: "swav assigns its batch at once", instead: "more ranks, or a queue")
    try stage.requireUnshuffled(because: "swav has no keys to hide")
    var warnings: [String] = []
    if stage.batch + queue < prototypes {
      warnings.append(
        "\(stage.batch + queue) embeddings are shared out evenly among \(prototypes) prototypes at a time: take fewer "
          + "prototypes, a larger batch or a longer queue")
    }
    if queue >= images {
      warnings.append(
        "the queue of \(queue) embeddings holds each of the \(images) images more than once: take a shorter one")
    }
    return warnings
  }

  package func remedy(_ symptom: Symptom) -> String {
    switch symptom {
    case .guessing, .prototypes:
      "lower method.epsilon (0.03), lengthen method.freeze, or take fewer method.prototypes"
    case .point, .line: "lengthen method.freeze, lower optimizer.rate, or lower method.epsilon (0.03)"
    }
  }

  package func make(_ setting: MethodSetting) -> any Method { Running(self, setting) }

  final class Running: Method {
    let trained: [Trained]
    private(set) var embeddings: Embeddings?
    private let recipe: SwAV
    private let setting: MethodSetting
    /// D of an embedding.
    private let dimension: Int
    private let sinkhorn: Sinkhorn
    private let loss: SwappedPrediction
    private let groups: StepGroups
    /// A row holds the embeddings of both assigned crops of an image.
    private let queue: KeyQueue?
    /// Rows that the queue has got.
    private let filled = UnsafeMutableBufferPointer<Int64>.allocate(capacity: 1)
    /// This step's rows, (B, 2·D), to be enqueued once the step counts.
    private var fresh: [Float] = []
    /// The prototypes of a step that leaves them as they are.
    private var frozen: [Float] = []
    private var step = 0
    private static let columnsPerBlock = 64

    private var isFrozen: Bool { step < setting.plan.steps(recipe.freeze) }
    private var isQueueing: Bool { step >= setting.plan.steps(recipe.queueFrom) }
    private var prototypes: Linear { encoder.network.head(.prototypes).linear(0) }

    init(_ recipe: SwAV, _ setting: MethodSetting) {
      self.recipe = recipe
      self.setting = setting
      let layers = recipe.head.normalised(features: setting.encoder.features, lastBias: true)
      let prototypes = HeadPlan.prototypes(recipe.prototypes, of: layers.last!.outputs)
      trained = [setting.trained("encoder", heads: [HeadPlan(.head, layers), prototypes])]
      dimension = layers.last!.outputs
      embeddings = Embeddings(dimension: dimension)
      sinkhorn = Sinkhorn(epsilon: recipe.epsilon, iterations: recipe.iterations)
      loss = SwappedPrediction(temperature: Float(recipe.temperature))
      groups = StepGroups(setting)
      queue = recipe.queue > 0 ? KeyQueue(count: recipe.queue, dimension: SwAV.assigned * dimension) : nil
      filled.initialize(repeating: 0)
    }

    deinit { filled.deallocate() }

    func initialise() {
      encoder.state.initialise(seed: setting.seed)
      queue?.initialise(seed: setting.seed)
      filled[0] = 0
    }

    var state: [SavedState] { queue.map { $0.saved + [SavedState("queue/filled", integers: filled)] } ?? [] }

    func step(_ input: MethodInput) -> Outcome {
      step = input.step
      normalisePrototypes()
      return setting.context.scratch { arena in
        let crops = input.views.reduce(0) { $0 + $1.n }
        let features = arena.tensor(n: crops, c: setting.encoder.features)
        let gradient = arena.tensor(like: features)
        var outcome = Outcome(loss: 0)
        encode(0, at: 0, into: features, gradient, input) {
          setting.context.scratch { arena in
            let z = arena.tensor(n: crops, c: dimension)
            project(0, at: 0, features, gradient, z, input) { outcome = predict(z, input) }
          }
        }
        return outcome
      }
    }

    /// Encodes the crops of a kind and of those after it, runs `body`, and takes the gradients back.
    /// - Parameters:
    ///   - row: the kind's first row in `features` and `gradient`.
    ///   - features: of all crops, (V·n, C), crop after crop.
    ///   - gradient: theirs, which `body` fills.
    private func encode(
      _ kind: Int, at row: Int, into features: Tensor, _ gradient: Tensor, _ input: MethodInput, _ body: () -> Void
    ) {
      guard kind < input.views.count else { return body() }
      let context = setting.context
      let views = input.views[kind]
      let rows = row..<row + views.n
      context.scratch { arena in
        let groups = groups(input, views: count(views.n, input), in: arena)
        // Backward of the first kind is the last to add to the gradients.
        let pass = encoder.pass(context, groups, reduces: kind == 0)
        let tape = encoder.network.forward(views, tap: .features, pass)
        copy(tape.features, to: features.images(rows))
        encode(kind + 1, at: rows.upperBound, into: features, gradient, input, body)
        encoder.network.backward(gradient.images(rows), tape, pass)
      }
    }

    /// Takes features through the head, one BN batch after the other, runs `body`, and takes the gradients back.
    /// - Parameters:
    ///   - kind: the first kind of view whose features are to do, and `row` its first row.
    ///   - z: embeddings of all crops, (V·n, D), not normalised; `body` turns them into their gradients.
    private func project(
      _ kind: Int, at row: Int, _ features: Tensor, _ gradient: Tensor, _ z: Tensor, _ input: MethodInput,
      _ body: () -> Void
    ) {
      guard kind < input.views.count else { return body() }
      let context = setting.context
      let end = recipe.headBatch == .all ? input.views.count : kind + 1
      let rows = row..<row + input.views[kind..<end].reduce(0) { $0 + $1.n }
      let mine = z.images(rows)
      context.scratch { arena in
        let groups = groups(input, views: count(rows.count, input), in: arena)
        let pass = encoder.pass(context, groups, reduces: false)
        let head = encoder.network.head(.head)
        let tape = context.part(.head) { head.forward(features.images(rows), pass) }
        copy(tape.output, to: mine)
        project(end, at: rows.upperBound, features, gradient, z, input, body)
        context.part(.head) { head.backward(mine, tape, dx: gradient.images(rows), pass) }
      }
    }

    /// How many crops of each image some rows are.
    private func count(_ rows: Int, _ input: MethodInput) -> Int { input.count == 0 ? 1 : rows / input.count }

    private func copy(_ from: Tensor, to: Tensor) {
      setting.context.run(1) { _, _ in to.data.update(from: from.data, count: from.count) }
    }

    /// Codes, predictions, loss.
    /// - Parameter z: embeddings, (V·n, D), crop after crop; becomes their gradient.
    private func predict(_ z: Tensor, _ input: MethodInput) -> Outcome {
      let context = setting.context
      let n = input.count
      let targets = SwAV.assigned * n
      return context.part(.loss) {
        context.scratch { arena in
          let pass = Pass(
            context, encoder.state, .train, BatchGroups(images: 1, in: arena), gradients: encoder.gradients)
          let unit = UnitRows(z, in: arena, context)
          embeddings?.keep(unit.rows.images(0..<n), context)
          let scores = arena.tensor(n: z.n, c: recipe.prototypes)
          let codes = arena.tensor(n: targets, c: recipe.prototypes)
          prototypes.forward(unit.rows, into: scores, pass)
          for crop in 0..<SwAV.assigned {
            let rows = crop * n..<(crop + 1) * n
            assign(scores.images(rows), crop: crop, into: codes.images(rows), pass)
          }
          let entropy = usage(scores.images(0..<targets))
          let statistics = loss.apply(scores, codes: codes, images: n, count: input.batch, context)
          prototypes.backward(scores, x: unit.rows, dx: z, pass)  // scores hold their gradient now
          unit.backward(z, context)
          if isFrozen {
            context.run(1) { _, _ in
              encoder.gradients[prototypes.weight].update(repeating: 0, count: prototypes.weight.count)
            }
          }
          collect(unit.rows, input)
          return outcome(statistics, entropy: entropy)
        }
      }
    }

    private func outcome(_ statistics: LossStatistics, entropy: Double) -> Outcome {
      let rows = max(1, statistics.rows)
      var outcome = Outcome(loss: statistics.loss / rows, chance: log(Double(recipe.prototypes)))
      outcome.figures[.candidates] = Double(recipe.prototypes)
      outcome.figures[.top1] = statistics.correct / rows
      outcome.figures[.entropy] = entropy
      return outcome
    }

    /// The codes of one crop, assigned with those of the queue once it is full.
    private func assign(_ scores: Tensor, crop: Int, into codes: Tensor, _ pass: Pass) {
      let context = setting.context
      let communicator = context.communicator
      context.scratch { arena in
        // A dry run plans for the queue.
        let isUsed = queue != nil && (filled[0] >= recipe.queue || context.isDry)
        let mine = isUsed ? share(of: recipe.queue, rank: communicator.rank, ranks: communicator.size) : 0..<0
        let all = arena.tensor(n: mine.count + scores.n, c: scores.c)
        let assigned = arena.tensor(like: all)
        if let queue, isUsed {
          let rows = arena.tensor(n: mine.count, c: dimension)
          let from = queue.tensor
          context.run(1) { _, _ in
            for (i, row) in mine.enumerated() {
              (rows.data + i * dimension).update(from: from.data + row * from.c + crop * dimension, count: dimension)
            }
          }
          prototypes.forward(rows, into: all.images(0..<mine.count), pass)
        }
        let tail = all.images(mine.count..<all.n)
        context.run(1) { _, _ in tail.data.update(from: scores.data, count: scores.count) }
        sinkhorn.assign(all, into: assigned, context)
        context.run(1) { _, _ in
          codes.data.update(from: assigned.images(mine.count..<all.n).data, count: codes.count)
        }
      }
    }

    /// Entropy of which prototype is the nearest, over all ranks: 0 where all embeddings have the same one.
    private func usage(_ scores: Tensor) -> Double {
      let context = setting.context
      let k = scores.c
      return context.scratch { arena in
        let counts = arena.array(of: Double.self, count: k)
        context.run(1) { _, _ in
          counts.update(repeating: 0)
          for row in 0..<scores.n {
            var nearest = 0
            for j in 0..<k where scores.data[row * k + j] > scores.data[row * k + nearest] { nearest = j }
            counts[nearest] += 1
          }
        }
        context.allReduce(counts, on: .statistics, "use of prototypes")
        var entropy = 0.0
        context.run(1) { _, _ in
          let total = counts.reduce(0, +)
          for count in counts where count > 0 { entropy -= count / total * log(count / total) }
        }
        return entropy
      }
    }

    /// The embeddings of both assigned crops, side by side, of all ranks.
    private func collect(_ unit: Tensor, _ input: MethodInput) {
      guard queue != nil else { return }
      let context = setting.context
      let n = input.count
      let width = SwAV.assigned * dimension
      context.scratch { arena in
        let rows = arena.tensor(n: n, c: width)
        let all = arena.tensor(n: input.batch, c: width)
        context.run(SwAV.assigned) { crop, _ in
          for i in 0..<n {
            (rows.data + i * width + crop * dimension).update(
              from: unit.data + (crop * n + i) * dimension, count: dimension)
          }
        }
        context.gather(rows, shares: input.shares, into: all, "embeddings")
        if !context.isDry { fresh.replace(with: all) }
      }
    }

    func commit() {
      if isFrozen {
        let weight = prototypes.weight
        frozen.withUnsafeBufferPointer {
          encoder.state.parameters[weight].update(from: $0.baseAddress!, count: weight.count)
        }
        for moment in encoder.moments { moment.slab[weight].update(repeating: 0, count: weight.count) }
      }
      if let queue, isQueueing {
        queue.enqueue(fresh)
        filled[0] = min(Int64(queue.count), filled[0] + Int64(fresh.count / queue.dimension))
      }
    }

    /// Makes every prototype a unit vector, and keeps them where the step leaves them as they are.
    private func normalisePrototypes() {
      let context = setting.context
      let k = recipe.prototypes
      let weight = encoder.state.parameters[prototypes.weight]
      context.run((k + Self.columnsPerBlock - 1) / Self.columnsPerBlock) { block, _ in
        for j in block * Self.columnsPerBlock..<min(k, (block + 1) * Self.columnsPerBlock) {
          var sum = 0.0
          for i in 0..<dimension { sum += Double(weight[i * k + j]) * Double(weight[i * k + j]) }
          let norm = max(sum.squareRoot(), 1e-12)
          for i in 0..<dimension { weight[i * k + j] = Float(Double(weight[i * k + j]) / norm) }
        }
      }
      if isFrozen, !context.isDry { frozen.replace(with: Tensor(weight, n: dimension, c: k)) }
    }
  }
}

extension PartName {
  fileprivate static let prototypes: PartName = "prototypes"
}

extension HeadPlan {
  /// Vectors that normalised embeddings are held against, (D, K).
  fileprivate static func prototypes(_ count: Int, of dimension: Int) -> HeadPlan {
    HeadPlan(
      .prototypes, from: .method(channels: dimension), [Head.Layer(count, bias: false)], numbered: false)
  }
}
