import Engine
import Shards

/// A method's options, as a recipe writes them, and the way to its running form. One file a method; `Methods.all` is
/// the table.
package protocol MethodRecipe: Options, Sendable {
  static var name: String { get }
  /// Refuses what cannot work, before anything is read.
  /// - Parameter images: of the data set.
  /// - Returns: warnings in words.
  func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String]
  func make(_ setting: MethodSetting) -> any Method
  /// With the defaults that depend on how it is trained.
  func completed(for optimizer: any Optimizer) -> Self
  /// The likely cause of a symptom, as the options that are to be changed.
  func remedy(_ symptom: Symptom) -> String
}

extension MethodRecipe {
  package static var title: String { name }
  package func completed(for optimizer: any Optimizer) -> Self { self }
  package func remedy(_ symptom: Symptom) -> String { "lower optimizer.rate, or lengthen schedule.warmup" }
}

/// What a method is made for.
package struct MethodSetting {
  package let encoder: ImageEncoder.Options
  package let normalisation: NormalisationGroups
  package let seed: UInt64
  package let accumulate: Int
  /// Images of the data set.
  package let images: Int
  /// How long the stage is: schedules of the method's own are functions of the step.
  package let plan: RunPlan
  /// Whose state goes with what is trained.
  package let optimizer: any Optimizer
  /// Which parameters train, and how fast.
  package let rules: [Rule]
  package let context: Context

  package init(
    encoder: ImageEncoder.Options, normalisation: NormalisationGroups = .global, seed: UInt64 = 1, accumulate: Int = 1,
    images: Int, plan: RunPlan, optimizer: any Optimizer = SGD(), rules: [Rule] = [],
    context: Context
  ) {
    self.encoder = encoder
    self.normalisation = normalisation
    self.seed = seed
    self.accumulate = accumulate
    self.images = images
    self.plan = plan
    self.optimizer = optimizer
    self.rules = rules
    self.context = context
  }

  /// A network that is to be trained, under the stage's rules.
  /// - Parameters:
  ///   - name: of its state in a checkpoint, such as `encoder` or `query`.
  ///   - encoder: nil for the stage's; a method of several encoders gives each its own channels.
  package func trained(_ name: String, _ encoder: ImageEncoder.Options? = nil, heads: [HeadPlan]) -> Trained {
    Trained(name, Network(encoder ?? self.encoder, heads: heads, rules: rules), optimizer, context)
  }

  /// A network with one head, called `head`.
  package func trained(_ name: String, head layers: [Head.Layer]) -> Trained {
    trained(name, heads: [HeadPlan(.head, layers)])
  }
}

/// A rank's share of one step, as tensors.
package struct MethodInput {
  package let step: Int
  /// Passes over the data before this step.
  package let epoch: Int
  /// Images of the global batch.
  package let batch: Int
  /// Images of every rank.
  package let shares: [Int]
  /// Which positions of the global batch are here.
  package let positions: Range<Int>
  /// Their ids in the data set.
  package let samples: [Int]
  /// Their classes, -1 where an image has none; empty in a dry run. Pre-training does not read them.
  package let labels: [Int32]
  /// By kind of view: (count · n, H, W, C), all images of its first view, then of its second.
  package let views: [Tensor]
  /// By kind of view: (count · n), what each view is to be recognised as; nil for kinds without a target. Empty where
  /// no kind has any.
  package let targets: [UnsafePointer<Int32>?]
  /// For tests that bring their own: the place of every position in a shuffled batch.
  package let order: [Int]?
  /// For tests that bring their own: the negatives that are drawn from a bank, K for every position.
  package let drawn: [Int]?

  package init(
    step: Int, epoch: Int = 0, batch: Int, shares: [Int], rank: Int, samples: [Int], labels: [Int32] = [],
    views: [Tensor], targets: [UnsafePointer<Int32>?] = [], order: [Int]? = nil, drawn: [Int]? = nil
  ) {
    self.step = step
    self.epoch = epoch
    self.batch = batch
    self.shares = shares
    self.samples = samples
    self.labels = labels
    self.views = views
    self.targets = targets
    self.order = order
    self.drawn = drawn
    let first = shares[..<rank].reduce(0, +)
    positions = first..<first + shares[rank]
  }

  /// Images here.
  package var count: Int { positions.count }
}

/// This rank's last embeddings, for figures of the run's health.
package struct Embeddings {
  /// Of length one, row after row.
  package private(set) var values: [Float] = []
  /// D
  package let dimension: Int

  package init(dimension: Int) { self.dimension = dimension }

  /// Keeps rows of length one, (N, D); nothing in a dry run.
  package mutating func keep(_ rows: Tensor, _ context: Context) {
    if !context.isDry { values.replace(with: rows) }
  }
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
  func step(_ input: MethodInput) -> Outcome
  /// The parameters have been updated: moves what follows them.
  func commit()
  /// What would show a collapse; nil where nothing can.
  var embeddings: Embeddings? { get }
}

extension Method {
  /// What the run is for.
  package var encoder: Trained { trained[0] }
  package func adoptEncoder() {}
  package func commit() {}
  package var state: [SavedState] { [] }
  package var unsavedBytes: Int { 0 }
  package var embeddings: Embeddings? { nil }
  /// Everything that a checkpoint holds.
  package var saved: [SavedState] { trained.flatMap(\.saved) + state }

  /// Gradients of a step's global batch, summed over ranks.
  package func gradients(_ input: MethodInput) -> Outcome {
    for trained in trained { trained.gradients.zero() }
    let outcome = step(input)
    for trained in trained { trained.reducer.finish() }
    return outcome
  }

  /// Moves the parameters by their gradients, and then what follows them.
  /// - step: of the stage.
  package func update(_ optimizer: any Optimizer, step: Int, rate: Double, _ context: Context) {
    for trained in trained { trained.update(optimizer, step: step, rate: Float(rate), context) }
    commit()
  }
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
    value = try decoder.options(method, besides: ["name"])
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Keys.self)
    try container.encode(type(of: value).name, forKey: .name)
    try value.encode(to: encoder)
  }
}
