import Engine
import Foundation
import Shards

/// Learning from labels, from scratch or from a pre-trained encoder: fine-tuning and linear probes.
///
/// Fine-tuning from a layer of the head: Big Self-Supervised Models are Strong Semi-Supervised Learners, Chen et al.
/// 2020, arXiv:2006.10029, section 3; reference google-research/simclr, `ft_proj_selector`. What trains, and how fast,
/// is said by the stage's `parameters`: a linear probe freezes the encoder, HPT (arXiv:2103.12718) multiplies the
/// classifier's rate by 100.
///
///     L = cross-entropy(classifier(layers(encoder(x))), y)
package struct Supervised: MethodRecipe {
  package static let name = "supervised"

  /// What follows the encoder.
  package var classifier = ClassifierHead()
  /// ε of label smoothing.
  package var smoothing = 0.0
  /// `none`, `balanced` for weights that make all classes count alike, or a weight for each class.
  package var classWeights = ClassWeights.none

  /// The defaults.
  package init() {}

  package func check() throws(RecipeError) {
    try require("smoothing", smoothing, 0 <= smoothing && smoothing < 1, "in [0, 1)")
  }

  package var labels: LabelUse { .only }
  package var classScores: Network.Tap? { ClassifierHead.tap }

  package func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String] {
    try stage.requireOneView(by: Self.name)
    return []
  }

  package func check(_ labels: LabelSelection, classes: [String]) throws(RecipeError) {
    guard classes.count >= 2 else {
      throw RecipeError("supervised: the data have \(classes.count) class; there is nothing to tell apart")
    }
    guard labels.counts.count(where: { $0 > 0 }) >= 2 else {
      throw RecipeError(
        "supervised: the labels that may be seen are of one class alone; give labels of the others among "
          + "\(listed(classes)) as well")
    }
    try classWeights.check(labels.counts, classes: classes)
  }

  package func remedy(_ symptom: Symptom) -> String { "lower optimizer.rate, or give more labels" }

  package func heads(features: Int, classes: Int) -> [HeadPlan] {
    classifier.plans(features: features, classes: classes)
  }

  package func make(_ setting: MethodSetting) -> any Method { Running(self, setting) }

  final class Running: Method {
    let trained: [Trained]
    private let loss: SoftmaxCrossEntropy
    private let setting: MethodSetting
    private let groups: StepGroups

    init(_ recipe: Supervised, _ setting: MethodSetting) {
      self.setting = setting
      groups = StepGroups(setting)
      trained = [setting.trained("encoder", recipe)]
      loss = SoftmaxCrossEntropy(
        smoothing: recipe.smoothing, weights: recipe.classWeights.resolved(setting.classCounts))
    }

    func initialise() { encoder.state.initialise(seed: setting.seed) }

    func step(_ input: MethodInput) -> Outcome {
      let context = setting.context
      let total = loss.total(input.labels, count: input.batch, context)
      var sums = ClassificationSums()
      setting.forEachPart(of: input.count) { part, range, arena in
        let pass = encoder.pass(context, groups(input, in: arena).images(range), part: part, of: setting.accumulate)
        let tape = encoder.network.forward(input.views[0].images(range), tap: ClassifierHead.tap, pass)
        let scores = tape.output
        let found = context.part(.loss) {
          loss.apply(scores, total: total, context) { Int(input.labels[range.lowerBound + $0]) }
        }
        sums.add(found)
        encoder.network.backward(scores, tape, pass)  // the scores now hold their gradient
      }
      return Outcome(sums, chance: log(Double(setting.classes)))
    }
  }
}

/// How much each class counts in a loss.
package enum ClassWeights: Codable, Sendable, Equatable {
  case none
  /// N / (classes · n_k): a class of n_k of the N images counts as much as every other.
  case balanced
  case list([Double])

  package init(from decoder: any Swift.Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let list = try? container.decode([Double].self) {
      guard list.allSatisfy({ $0 >= 0 && $0.isFinite }), list.contains(where: { $0 > 0 }) else {
        throw decoder.invalid("the weights \(list) must be 0 or more, and one above 0")
      }
      self = .list(list)
      return
    }
    switch try container.decode(String.self) {
    case "none": self = .none
    case "balanced": self = .balanced
    case let word:
      throw decoder.unknown(word, known: ["none", "balanced"], of: "classWeights, beside a list of numbers")
    }
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .none: try container.encode("none")
    case .balanced: try container.encode("balanced")
    case .list(let list): try container.encode(list)
    }
  }

  fileprivate func check(_ counts: [Int], classes: [String]) throws(RecipeError) {
    guard case .list(let list) = self, list.count != classes.count else { return }
    throw RecipeError("classWeights has \(list.count) weights, the data have \(classes.count) classes")
  }

  /// By class; nil where all count alike.
  fileprivate func resolved(_ counts: [Int]) -> [Double]? {
    switch self {
    case .none: return nil
    case .list(let list): return list
    case .balanced:
      let all = Double(counts.reduce(0, +))
      let present = Double(counts.count { $0 > 0 })
      return counts.map { $0 == 0 ? 0 : all / (present * Double($0)) }
    }
  }
}
