import Engine
import Foundation
import Ranks
import Shards

/// SwAV: Unsupervised Learning of Visual Features by Contrasting Cluster Assignments. Caron et al. 2020,
/// arXiv:2006.09882; reference facebookresearch/swav, `main_swav.py`.
///
/// The crops of the first kind of view are assigned to prototypes, and every crop predicts the assignments of the
/// others. In the encoder the crops of one kind share a BN batch, because the reference encodes crops of one size
/// together. By default the head runs once, on the features of all crops (`src/resnet50.py`, `forward`).
///
/// Departs from the reference: there each rank has its own queue; here the queue holds the embeddings of the global
/// batch in order, so that it is the same for any number of ranks.
package struct SwAV: MethodRecipe {
  package static let name = "swav"
  /// Number of crops that are assigned to prototypes.
  private static let assigned = 2

  /// τ of the predictions.
  package var temperature = 0.1
  /// Widths of the head's layers, linear with bias; all but the last with BN and ReLU.
  package var head: [HeadWidth] = [.channels(2048), .channels(128)]
  /// K, the number of prototypes.
  package var prototypes = 3000
  /// ε of the assignments; smaller is sharper.
  package var epsilon = 0.05
  /// Iterations of the Sinkhorn–Knopp scaling.
  package var iterations = 3
  /// How long the prototypes keep their initial values: 313 steps of 4096 images, or 5005 of 256.
  package var freeze = Length.steps(313)
  /// Embeddings of earlier batches that are assigned together with each crop's, for small batches (3840 with batches of
  /// 256); 0 for none.
  package var queue = 0
  /// When the queue begins to fill. It is used when it is full.
  package var queueFrom = Length.epochs(15)
  /// Which crops share a BN batch in the head.
  package var headBatch = HeadBatch.all

  /// The crops that share a BN batch in the head.
  package enum HeadBatch: String, Codable, CaseIterable, Sendable {
    /// All crops, as in the reference.
    case all
    /// The crops of one kind, as in the encoder. The running statistics are then updated once for each kind.
    case kind
  }

  /// The defaults.
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

  package func heads(features: Int, classes: Int) -> [HeadPlan] {
    let layers = head.normalised(features: features, lastBias: true)
    return [HeadPlan(.head, layers), .prototypes(prototypes, of: layers.last!.outputs)]
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
    /// A row holds the embeddings of both assigned crops of an image, side by side.
    private let queue: KeyQueue?
    /// Number of rows of the queue that have been written.
    private let filled = UnsafeMutableBufferPointer<Int64>.allocate(capacity: 1)
    /// This step's rows, (B, 2·D); `commit` enqueues them.
    private var fresh: [Float] = []
    /// The prototypes before a step that must not change them.
    private var frozen: [Float] = []
    private var step = 0
    private static let columnsPerBlock = 64

    private var isFrozen: Bool { step < setting.plan.steps(recipe.freeze) }
    private var isQueueing: Bool { step >= setting.plan.steps(recipe.queueFrom) }
    private var prototypes: Linear { encoder.network.head(.prototypes).linear(0) }

    init(_ recipe: SwAV, _ setting: MethodSetting) {
      self.recipe = recipe
      self.setting = setting
      trained = [setting.trained("encoder", recipe)]
      dimension = trained[0].network.head(.head).outputs!
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

    /// Encodes the crops of a kind and of the kinds after it, runs `body`, and runs backward.
    /// - Parameters:
    ///   - row: the kind's first row in `features` and `gradient`.
    ///   - features: features of all crops, (V·n, C), ordered by crop.
    ///   - gradient: their gradient, filled by `body`.
    private func encode(
      _ kind: Int, at row: Int, into features: Tensor, _ gradient: Tensor, _ input: MethodInput, _ body: () -> Void
    ) {
      guard kind < input.views.count else { return body() }
      let context = setting.context
      let views = input.views[kind]
      let rows = row..<row + views.n
      context.scratch { arena in
        let groups = groups(input, views: count(views.n, input), in: arena)
        // The first kind's backward runs last, so its gradients are complete and can be reduced.
        let pass = encoder.pass(context, groups, reduces: kind == 0)
        let tape = encoder.network.forward(views, tap: .features, pass)
        copy(tape.features, to: features.images(rows))
        encode(kind + 1, at: rows.upperBound, into: features, gradient, input, body)
        encoder.network.backward(gradient.images(rows), tape, pass)
      }
    }

    /// Runs the head on the features, one BN batch after the other, runs `body`, and runs backward.
    /// - Parameters:
    ///   - kind: the first kind of view that has not been projected.
    ///   - row: its first row.
    ///   - z: embeddings of all crops, (V·n, D), not normalised; `body` replaces them by their gradient.
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

    /// Number of crops of each image in so many rows.
    private func count(_ rows: Int, _ input: MethodInput) -> Int { input.count == 0 ? 1 : rows / input.count }

    private func copy(_ from: Tensor, to: Tensor) {
      setting.context.run(1) { _, _ in to.data.update(from: from.data, count: from.count) }
    }

    /// Computes codes, predictions and the loss.
    /// - Parameter z: embeddings, (V·n, D), ordered by crop; becomes their gradient.
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
          prototypes.backward(scores, x: unit.rows, dx: z, pass)  // scores now hold their gradient
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

    /// Computes the codes of one crop, together with the queue's embeddings when it is full.
    private func assign(_ scores: Tensor, crop: Int, into codes: Tensor, _ pass: Pass) {
      let context = setting.context
      let communicator = context.communicator
      context.scratch { arena in
        // The dry run plans for a full queue.
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

    /// Entropy of the distribution of nearest prototypes, over all ranks; 0 if all embeddings have the same.
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

    /// Gathers the embeddings of both assigned crops, side by side, from all ranks for the queue.
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

    /// Normalises every prototype, and keeps a copy if the step must not change them.
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
  /// The prototypes: vectors that normalised embeddings are compared with, (D, K).
  fileprivate static func prototypes(_ count: Int, of dimension: Int) -> HeadPlan {
    HeadPlan(
      .prototypes, from: .method(channels: dimension), [Head.Layer(count, bias: false)], numbered: false)
  }
}
