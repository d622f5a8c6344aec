import Engine
import Foundation
import Shards

/// A student learns the class probabilities of a teacher, on labelled and unlabelled images.
///
/// Distilling the Knowledge in a Neural Network, Hinton, Vinyals, Dean 2015, arXiv:1503.02531; as the third step of
/// SimCLR v2: Chen et al. 2020, arXiv:2006.10029, section 3, eq. 2 and 3; reference google-research/simclr,
/// `colabs/distillation_self_training.ipynb`.
///
///     L = α·f·CE(softmax(t/T), s/T) + (1 − α)·CE(y, s) where there is a label y,   f = 1 or T²
///
/// Teacher and student see the same views. The teacher is frozen and runs in inference mode.
package struct Distil: MethodRecipe {
  package static let name = "distil"
  package static let required = ["teacher"]

  /// Where the teacher is: `previous`, `stage NAME`, `run FOLDER`. It must have been trained to tell the classes.
  package var teacher = StageStart.Source.nothing
  /// T
  package var temperature = 1.0
  /// α: 1 is without labels.
  package var alpha = 1.0
  /// Whether f is T².
  package var squared = false
  /// What follows the student's encoder.
  package var classifier = ClassifierHead()

  /// The defaults.
  package init() {}

  package func check() throws(RecipeError) {
    try require("temperature", temperature, temperature > 0, "above 0")
    try require("alpha", alpha, 0 < alpha && alpha <= 1, "above 0 and up to 1")
  }

  package var teachers: [StageStart.Source] { [teacher] }
  package var labels: LabelUse { alpha < 1 ? .some : .none }
  package var labelRemedy: String { "leave it out, or learn from labels as well by method.alpha below 1" }
  package var classScores: Network.Tap? { ClassifierHead.tap }

  package func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String] {
    try stage.requireOneView(by: Self.name)
    return []
  }

  package func check(
    _ teacher: Teacher, from source: StageStart.Source, input: EncoderInput, classes: [String]
  ) throws(RecipeError) {
    guard teacher.classScores != nil else {
      throw RecipeError(
        "teacher \(source) tells no classes: give a run or a stage that was trained to, by apus finetune or the method "
          + "supervised")
    }
    guard !classes.isEmpty else {
      throw RecipeError(
        "teacher \(source) tells the classes \(listed(teacher.classNames)), and the data know of no classes: pack the "
          + "images with --like DATA, where DATA is what the teacher was trained on")
    }
    guard teacher.classNames == classes else {
      throw RecipeError(
        "teacher \(source) tells the classes \(listed(teacher.classNames)), the data have \(listed(classes)): they "
          + "must be the same, in the same order; pack the images with --like, or take another teacher")
    }
    let own = (input.mean, input.deviation, input.selections)
    guard own == (teacher.input.mean, teacher.input.deviation, teacher.input.selections) else {
      throw RecipeError(
        "teacher \(source) takes images of mean \(teacher.input.mean) and deviation \(teacher.input.deviation), the "
          + "student's views have \(input.mean) and \(input.deviation): both see the same views, so give them "
          + "normalise: {mean: \(teacher.input.mean), deviation: \(teacher.input.deviation)}")
    }
  }

  package func remedy(_ symptom: Symptom) -> String { "lower optimizer.rate, or take another temperature" }

  package func heads(features: Int, classes: Int) -> [HeadPlan] {
    classifier.plans(features: features, classes: classes)
  }

  package func make(_ setting: MethodSetting) -> any Method { Running(self, setting) }

  final class Running: Method {
    let trained: [Trained]
    private let loss: Distillation
    private let recipe: Distil
    private let setting: MethodSetting
    private let groups: StepGroups

    init(_ recipe: Distil, _ setting: MethodSetting) {
      self.recipe = recipe
      self.setting = setting
      groups = StepGroups(setting)
      trained = [setting.trained("student", recipe)]
      loss = Distillation(temperature: recipe.temperature, alpha: recipe.alpha, squared: recipe.squared)
    }

    func initialise() { encoder.state.initialise(seed: setting.seed) }

    func step(_ input: MethodInput) -> Outcome {
      let context = setting.context
      var sums = ClassificationSums()
      setting.forEachPart(of: input.count) { part, range, arena in
        let images = input.views[0].images(range)
        let t = arena.tensor(n: images.n, c: setting.classes)
        ask(images, into: t)
        let pass = encoder.pass(context, groups(input, in: arena).images(range), part: part, of: setting.accumulate)
        let tape = encoder.network.forward(images, tap: ClassifierHead.tap, pass)
        let scores = tape.output
        let found = context.part(.loss) {
          loss.apply(scores, teacher: t, count: input.batch, context) { Int(input.labels[range.lowerBound + $0]) }
        }
        sums.add(found)
        encoder.network.backward(scores, tape, pass)  // the scores now hold their gradient
      }
      var outcome = Outcome(sums, chance: recipe.alpha == 1 ? loss.factor * log(Double(setting.classes)) : nil)
      outcome.figures[.agreement] = sums.agreeing / max(1, sums.rows)
      return outcome
    }

    /// The teacher's scores of images.
    private func ask(_ images: Tensor, into t: Tensor) {
      let context = setting.context
      let teacher = setting.teachers[0]
      context.scratch { arena in
        let pass = Pass(context, teacher.state, .inference, BatchGroups(images: images.n, in: arena))
        let scores = teacher.network.forward(images, tap: teacher.classScores!, pass).output
        if !context.isDry { t.data.update(from: scores.data, count: t.count) }
      }
    }
  }
}
