import Engine
import Shards

/// A method's options as in a recipe; `make` builds the running method. Each method has one file and a row in
/// `Methods.all`.
package protocol MethodRecipe: Options, Sendable {
  /// Name in recipes.
  static var name: String { get }
  /// Refuses settings that cannot work, before the data is read.
  /// - Parameter images: number of images in the data set.
  /// - Returns: warnings.
  func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String]
  /// Which labels it learns from.
  var labels: LabelUse { get }
  /// What to do where labels are given to a method that learns from none.
  var labelRemedy: String { get }
  /// Where the scores of the data set's classes come out of the result's network; nil for a method that tells none.
  var classScores: Network.Tap? { get }
  /// Refuses labels that it cannot learn from. Called where `labels` is not `.none`.
  func check(_ labels: LabelSelection, classes: [String]) throws(RecipeError)
  /// Refuses a teacher that it cannot learn from.
  /// - Parameters:
  ///   - source: where the teacher is from, for messages.
  ///   - input: what the encoder that is trained is fed.
  ///   - classes: of the data set.
  func check(_ teacher: Teacher, from source: StageStart.Source, input: EncoderInput, classes: [String])
    throws(RecipeError)
  /// Networks that the method asks and does not train. A stage loads their weights before its first step.
  var teachers: [StageStart.Source] { get }
  /// Heads of the network whose encoder is the result.
  /// - Parameters:
  ///   - features: D of the encoder's output.
  ///   - classes: number of classes of the data set.
  func heads(features: Int, classes: Int) -> [HeadPlan]
  /// Builds the running method.
  func make(_ setting: MethodSetting) -> any Method
  /// Fills in the defaults that depend on the optimizer.
  func completed(for optimizer: any Optimizer) -> Self
  /// The options to change against a symptom.
  func remedy(_ symptom: Symptom) -> String
}

extension MethodRecipe {
  package static var title: String { name }
  package var labels: LabelUse { .none }
  package var labelRemedy: String { "leave it out" }
  package var classScores: Network.Tap? { nil }
  package func check(_ labels: LabelSelection, classes: [String]) throws(RecipeError) {}
  package var teachers: [StageStart.Source] { [] }
  package func check(
    _ teacher: Teacher, from source: StageStart.Source, input: EncoderInput, classes: [String]
  ) throws(RecipeError) {}
  package func completed(for optimizer: any Optimizer) -> Self { self }
  package func remedy(_ symptom: Symptom) -> String { "lower optimizer.rate, or lengthen schedule.warmup" }
}

/// Which labels a method learns from. Those that it may not see never reach it.
package enum LabelUse: Sendable {
  /// None: it trains on all images without their labels.
  case none
  /// Those of the chosen images: it trains on all images, and sees whose labels there are.
  case some
  /// It trains on the chosen images alone.
  case only
}

/// Everything that a method is built from, besides its own options.
package struct MethodSetting {
  /// Options of the stage's encoder, for the first kind of view.
  package let encoder: ImageEncoder.Options
  /// Channels of each kind of view.
  package let channels: [Int]
  /// Groups of batch normalisation.
  package let normalisation: NormalisationGroups
  /// The run's seed.
  package let seed: UInt64
  /// Number of parts in which a batch's gradients are accumulated.
  package let accumulate: Int
  /// Number of images in the data set.
  package let images: Int
  /// Number of classes in the data set.
  package let classes: Int
  /// By class: the number of images whose label may be seen; empty for a method that learns from none.
  package let classCounts: [Int]
  /// The networks of the recipe's `teachers`, in their order.
  package let teachers: [Teacher]
  /// Length of the stage, for the method's own schedules.
  package let plan: RunPlan
  /// The optimizer, which decides the state kept with trained parameters.
  package let optimizer: any Optimizer
  /// Which parameters train, and how fast.
  package let rules: [Rule]
  /// Threads, ranks and memory.
  package let context: Context

  /// A setting; what is left out has a default for tests.
  package init(
    encoder: ImageEncoder.Options, channels: [Int]? = nil, normalisation: NormalisationGroups = .global,
    seed: UInt64 = 1, accumulate: Int = 1, images: Int, classes: Int = 0, classCounts: [Int] = [],
    teachers: [Teacher] = [], plan: RunPlan, optimizer: any Optimizer = SGD(), rules: [Rule] = [], context: Context
  ) {
    self.encoder = encoder
    self.channels = channels ?? [encoder.channels]
    self.normalisation = normalisation
    self.seed = seed
    self.accumulate = accumulate
    self.images = images
    self.classes = classes
    self.classCounts = classCounts
    self.teachers = teachers
    self.plan = plan
    self.optimizer = optimizer
    self.rules = rules
    self.context = context
  }

  /// A network that is to be trained, under the stage's rules, with the heads of a method's recipe.
  /// - Parameters:
  ///   - name: of its state in a checkpoint, such as `encoder` or `query`.
  ///   - kind: the kind of view that it sees, which decides on its channels.
  package func trained(_ name: String, _ recipe: some MethodRecipe, kind: Int = 0) -> Trained {
    var options = encoder
    options.channels = channels[kind]
    let heads = recipe.heads(features: options.features, classes: classes)
    return Trained(name, Network(options, heads: heads, rules: rules), optimizer, context)
  }

  /// Calls `body` for each part of a rank's images whose gradients are accumulated one after the other, with memory
  /// that is given back after it.
  func forEachPart(of images: Int, _ body: (_ part: Int, _ range: Range<Int>, _ arena: Arena) -> Void) {
    for part in 0..<accumulate {
      let range = part * images / accumulate..<(part + 1) * images / accumulate
      context.scratch { body(part, range, $0) }
    }
  }
}

/// A rank's share of one step, as tensors.
package struct MethodInput {
  /// Step of the stage, from 0.
  package let step: Int
  /// Passes over the data before this step.
  package let epoch: Int
  /// Number of images in the global batch.
  package let batch: Int
  /// Number of images on every rank.
  package let shares: [Int]
  /// Positions in the global batch of this rank's images.
  package let positions: Range<Int>
  /// Their numbers in the data set.
  package let samples: [Int]
  /// Their classes, -1 for those whose label may not be seen; empty in a dry run.
  package let labels: [Int32]
  /// By kind of view: (count · n, H, W, C), all images of its first view, then all of its second.
  package let views: [Tensor]
  /// By kind of view: (count · n), the target of each view; nil for kinds without targets. Empty if no kind has
  /// targets.
  package let targets: [UnsafePointer<Int32>?]
  /// Set by tests: the shuffled batch's place of every position.
  package let order: [Int]?
  /// Set by tests: the rows drawn from a bank, K for every position.
  package let drawn: [Int]?

  /// The share of rank `rank`.
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

  /// Number of images on this rank.
  package var count: Int { positions.count }
}

/// This rank's last embeddings, for the health figures.
package struct Embeddings {
  /// (n, D), each row of length one.
  package private(set) var values: [Float] = []
  /// D, the dimension of an embedding.
  package let dimension: Int

  /// No embeddings.
  package init(dimension: Int) { self.dimension = dimension }

  /// Replaces the embeddings by normalised rows, (N, D). Does nothing in a dry run.
  package mutating func keep(_ rows: Tensor, _ context: Context) {
    if !context.isDry { values.replace(with: rows) }
  }
}

/// A running method: networks, state, and the paper's algorithm.
///
/// `step` computes gradients. It changes no state that a checkpoint holds, except running statistics. The trainer sums
/// the gradients over ranks, checks them, updates the parameters, and then calls `commit`.
package protocol Method: AnyObject {
  /// The trained networks.
  var trained: [Trained] { get }
  /// The networks whose encoders are the result, each fed the kind of view of its place in this list: their features
  /// are put side by side. The first of `trained` alone, unless views of a method differ in their channels.
  var results: [Trained] { get }
  /// State that a checkpoint must hold besides `trained`.
  var state: [SavedState] { get }
  /// Bytes of large buffers that are not saved, besides the gradients of `trained`.
  var unsavedBytes: Int { get }
  /// Draws the initial values, keyed by the seed.
  func initialise()
  /// Called after the encoder's weights have been replaced; copies them where the method has copies of the encoder.
  func adoptEncoder()
  /// Adds this rank's part of the gradients of the global batch's loss.
  func step(_ input: MethodInput) -> Outcome
  /// Called after the parameters have been updated; updates everything that depends on them.
  func commit()
  /// Embeddings that would show a collapse; nil if the method has none.
  var embeddings: Embeddings? { get }
}

extension Method {
  /// The network whose encoder is the result, or the first of them.
  package var encoder: Trained { trained[0] }
  package var results: [Trained] { [trained[0]] }
  package func adoptEncoder() {}
  package func commit() {}
  package var state: [SavedState] { [] }
  package var unsavedBytes: Int { 0 }
  package var embeddings: Embeddings? { nil }
  /// Everything that a checkpoint holds.
  package var saved: [SavedState] { trained.flatMap(\.saved) + state }
  /// Bytes of what a checkpoint holds of this rank.
  package var stateBytes: Int { saved.reduce(0) { $0 + $1.bytes.count } }
  /// Bytes of the gradients of all that is trained.
  package var gradientBytes: Int { trained.reduce(0) { $0 + $1.gradientBytes } }

  /// Gradients of a step's global batch, summed over ranks.
  package func gradients(_ input: MethodInput) -> Outcome {
    for trained in trained { trained.clear() }
    let outcome = step(input)
    for trained in trained { trained.reducer.finish() }
    return outcome
  }

  /// Updates the parameters with their gradients, then calls `commit`.
  /// - step: step of the stage.
  package func update(_ optimizer: any Optimizer, step: Int, rate: Double, _ context: Context) {
    for trained in trained { trained.update(optimizer, step: step, rate: Float(rate), context) }
    commit()
  }
}

/// The table of methods.
package enum Methods {
  /// All methods. Tests add their own for a while.
  @TaskLocal package static var all: [any MethodRecipe.Type] = [
    SimCLR.self, MoCo.self, EndToEnd.self, BYOL.self, SwAV.self, MemoryBank.self, AdCo.self, Supervised.self,
    Distil.self,
  ]
}

/// The method of a recipe: `{name: simclr, …}`, the other keys as the method defines them.
package struct AnyMethodRecipe: Codable, Sendable {
  /// The method's own options.
  package let value: any MethodRecipe
  /// Wraps a method's options.
  package init(_ value: any MethodRecipe) { self.value = value }

  private enum Keys: String, CodingKey { case name }

  /// Reads the name, and the options of the method that has it. Unknown names are refused.
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
