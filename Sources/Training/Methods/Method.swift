import Engine
import Foundation
import Shards

/// A method's options, as a recipe writes them, and the way to its running form. One file a method; `Methods.all` is the
/// table.
package protocol MethodRecipe: Codable, Sendable {
  static var name: String { get }
  /// Refuses what cannot work, before anything is read.
  /// - Parameter images: of the data set.
  /// - Returns: warnings in words.
  func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String]
  func make(_ setting: MethodSetting) -> any Method
  /// The likely cause of a symptom, as the options that are to be changed.
  func remedy(_ symptom: Symptom) -> String
}

extension MethodRecipe {
  package func remedy(_ symptom: Symptom) -> String { "lower optimizer.rate, or lengthen schedule.warmup" }
}

/// What a method is made for.
package struct MethodSetting {
  package let encoder: ResNet.Options
  package let normalisation: NormalisationGroups
  package let seed: UInt64
  package let accumulate: Int
  /// Images of the data set.
  package let images: Int
  /// How long the stage is: schedules of the method's own are functions of the step.
  package let plan: RunPlan
  package let context: Context

  package init(
    encoder: ResNet.Options, normalisation: NormalisationGroups = .global, seed: UInt64 = 1, accumulate: Int = 1,
    images: Int, plan: RunPlan, context: Context
  ) {
    self.encoder = encoder
    self.normalisation = normalisation
    self.seed = seed
    self.accumulate = accumulate
    self.images = images
    self.plan = plan
    self.context = context
  }
}

/// A rank's share of one step, as tensors.
package struct MethodInput {
  package let step: Int
  /// Images of the global batch.
  package let batch: Int
  /// Images of every rank.
  package let shares: [Int]
  /// Which positions of the global batch are here.
  package let positions: Range<Int>
  /// Their ids in the data set.
  package let samples: [Int]
  /// By kind of view: (count · n, H, W, C), all images of its first view, then of its second.
  package let views: [Tensor]
  /// For tests that bring their own: the place of every position in a shuffled batch.
  package let order: [Int]?
  /// For tests that bring their own: the negatives that are drawn from a bank, K for every position.
  package let drawn: [Int]?

  package init(
    step: Int, batch: Int, shares: [Int], rank: Int, samples: [Int], views: [Tensor], order: [Int]? = nil,
    drawn: [Int]? = nil
  ) {
    self.step = step
    self.batch = batch
    self.shares = shares
    self.samples = samples
    self.views = views
    self.order = order
    self.drawn = drawn
    let first = shares[..<rank].reduce(0, +)
    positions = first..<first + shares[rank]
  }

  /// Images here.
  package var count: Int { positions.count }
}

/// What a step tells, over all ranks.
package struct MethodOutcome {
  package let statistics: ContrastiveStatistics
  /// Candidates of each anchor: at chance, the loss is their logarithm. Nil where nothing is told apart.
  package let candidates: Int?
  /// Entropy of which prototype is the nearest, at most the logarithm of their number. Nil without prototypes.
  package var entropy: Double?
  /// Mean probability of the batch's own keys other than the positive, for methods with further negatives.
  package var inBatch: Double?
  /// What guessing gives, where that is not the candidates' logarithm.
  package var chance: Double?

  /// - Parameter scale: factor on the loss.
  package init(
    statistics: ContrastiveStatistics, candidates: Int?, scale: Double = 1, entropy: Double? = nil,
    inBatch: Double? = nil, chance: Double? = nil
  ) {
    self.statistics = statistics
    self.candidates = candidates
    self.entropy = entropy
    self.inBatch = inBatch
    self.chance = chance ?? candidates.map { scale * Foundation.log(Double(max(1, $0))) }
  }

  /// The loss over the global batch.
  package var loss: Double { statistics.loss / max(1, statistics.rows) }
}

/// A running method: networks, state, and the paper's algorithm.
///
/// `step` computes gradients and changes nothing that a replay would miss, besides running statistics; the trainer sums
/// the gradients over ranks, checks them, updates the parameters, and only then calls `commit`.
package protocol Method: AnyObject {
  /// What is trained. The first one's encoder is the result.
  var trained: [Trained] { get }
  /// All that a checkpoint must hold besides `trained`.
  var state: [SavedState] { get }
  /// Bytes that it keeps from `step` to `commit`, besides `saved` and the gradients of `trained`.
  var unsavedBytes: Int { get }
  /// Draws the initial values, keyed by the seed.
  func initialise()
  /// The encoder has been replaced by another one's weights.
  func adoptEncoder()
  /// Adds this rank's part of the gradients of the global batch's loss.
  func step(_ input: MethodInput) -> MethodOutcome
  /// The parameters have been updated: moves what follows them.
  func commit()
  /// This rank's last embeddings, normalised, row by row, for health figures.
  var embeddings: [Float] { get }
  /// D of an embedding.
  var dimension: Int { get }
}

extension Method {
  /// What the run is for.
  package var encoder: Trained { trained[0] }
  package func adoptEncoder() {}
  package func commit() {}
  package var state: [SavedState] { [] }
  package var unsavedBytes: Int { 0 }
  /// Everything that a checkpoint holds.
  package var saved: [SavedState] { trained.flatMap(\.saved) + state }
}

/// The table of methods.
package enum Methods {
  package static let all: [any MethodRecipe.Type] = [
    SimCLR.self, MoCo.self, EndToEnd.self, BYOL.self, SwAV.self, MemoryBank.self, AdCo.self,
  ]
}

/// The method of a recipe: `{name: simclr, …}`, the other keys as the method defines them.
package struct AnyMethodRecipe: Codable, Sendable {
  package let value: any MethodRecipe
  package init(_ value: any MethodRecipe) { self.value = value }

  private enum Keys: String, CodingKey { case name }

  package init(from decoder: any Decoder) throws {
    let name = try decoder.container(keyedBy: Keys.self).decode(String.self, forKey: .name)
    guard let method = Methods.all.first(where: { $0.name == name }) else {
      throw decoder.unknown(name, known: Methods.all.map { $0.name }, of: "the table of methods")
    }
    value = try method.init(from: decoder)
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Keys.self)
    try container.encode(type(of: value).name, forKey: .name)
    try value.encode(to: encoder)
  }
}
