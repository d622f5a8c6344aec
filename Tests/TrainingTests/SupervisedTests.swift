import Engine
import Foundation
import Shards
import Testing
import Training

/// A method that learns from labels or from the targets of a puzzle, with the softmax cross-entropy of every view. This
/// file has all that a new method needs.
private struct Supervised: MethodRecipe {
  static let name = "supervised"
  /// Targets of the views' puzzle that it learns, instead of labels.
  var answers: Int?

  func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String] { [] }
  func heads(features: Int, classes: Int) -> [HeadPlan] {
    [HeadPlan(.head, [Head.Layer(answers ?? classes, bias: true)])]
  }

  func make(_ setting: MethodSetting) -> any Method { Running(self, setting) }

  final class Running: Method {
    let trained: [Trained]
    private let recipe: Supervised
    private let context: Context

    init(_ recipe: Supervised, _ setting: MethodSetting) {
      self.recipe = recipe
      context = setting.context
      trained = [setting.trained("encoder", recipe)]
    }

    func initialise() { encoder.state.initialise(seed: 1) }

    func step(_ input: MethodInput) -> Outcome {
      context.scratch { arena in
        let pass = encoder.pass(context, BatchGroups(images: input.views[0].n, in: arena))
        let tape = encoder.network.forward(input.views[0], pass)
        let logits = tape.output
        var outcome = Outcome(loss: 0, chance: log(Double(logits.c)))
        var correct = 0.0
        if !context.isDry {
          let total = Double(input.batch * logits.n / input.count)
          for i in 0..<logits.n {
            let label = recipe.answers == nil ? input.labels[i] : input.targets[0]![i]
            let row = UnsafeMutableBufferPointer(rebasing: logits.buffer[i * logits.c..<(i + 1) * logits.c])
            let sum = row.reduce(0) { $0 + exp(Double($1)) }
            if row.max() == row[Int(label)] { correct += 1 / total }
            outcome.loss -= (Double(row[Int(label)]) - log(sum)) / total
            for j in row.indices {
              row[j] = Float((exp(Double(row[j])) / sum - (j == Int(label) ? 1 : 0)) / total)
            }
          }
        }
        outcome.figures[.accuracy] = correct
        encoder.network.backward(logits, tape, pass)
        return outcome
      }
    }
  }
}

@Suite struct SupervisedTests {
  /// Runs 60 steps of a method that is not in `Methods.all`.
  private func train(
    _ method: Supervised, views: Int, of operations: String, _ check: (MethodInput) -> Bool
  ) throws -> [Outcome] {
    let tiny = try TinyRun()
    let data = try tiny.pack("labelled", count: 48)
    var stage = try TinyRun.recipe([
      "views=[{count: 1, size: 10, operations: [\(operations)]}]", "optimizer={name: adam, rate: 0.003}",
      "method={name: memory-bank, negatives: 8}", "length=60 steps",
    ]).stages[0]
    stage.views[0].count = views
    stage.method = AnyMethodRecipe(method)
    let stageRun = try StageRun(stage, data: data, heldOut: nil, seed: 1, index: 0, Context())
    stageRun.method.initialise()
    #expect(stageRun.method.embeddings == nil && stageRun.candidates == nil)
    let loader = try stageRun.loader(from: 0, threads: 1)
    return try (0..<60).map { step in
      let batch = try loader.next()
      let input = stageRun.input(batch)
      #expect(input.epoch == step / 4 && check(input))
      let outcome = stageRun.gradients(input)
      loader.release(batch)
      stageRun.update(step: step)
      return outcome
    }
  }

  /// A method may use labels, be trained with Adam, and report figures of its own.
  @Test func aMethodMayLearnFromLabels() throws {
    let outcomes = try train(Supervised(), views: 1, of: "{normalise: dataset}") { input in
      input.labels.allSatisfy { (0..<3).contains($0) }
    }
    #expect(outcomes.suffix(4).allSatisfy { $0.loss < 0.5 * log(3) && $0.figures[.accuracy]! > 0.7 }, "\(outcomes)")
    #expect(outcomes[0].figures[.candidates] == nil && outcomes[0].figures[.top1] == nil)
  }

  /// A method may use the targets of a puzzle: by how many quarters each of four views was rotated.
  @Test func aMethodMayLearnFromAPuzzle() throws {
    let method = Supervised(answers: 4)
    let outcomes = try train(method, views: 4, of: "{rotate: each}, {normalise: dataset}") { input in
      (0..<input.views[0].n).allSatisfy { input.targets[0]![$0] == Int32($0 / input.count) }
    }
    // Stripes look the same after half a turn, so at best half of the guesses are right.
    #expect(outcomes.suffix(4).allSatisfy { $0.loss < 0.7 * log(4) && $0.figures[.accuracy]! > 0.4 }, "\(outcomes)")
  }

  /// Self-supervised methods give the same bits with other labels or none.
  @Test(arguments: ResumeTests.methods.keys.sorted()) func preTrainingDoesNotSeeLabels(_ method: String) throws {
    let tiny = try TinyRun()
    let sets = [
      try tiny.pack("right", count: 40),
      try tiny.pack("poisoned", count: 40, classes: ["c", "a", "b"], shown: ["a", "b", "c"]),
      try tiny.pack("unlabelled", count: 40, labelled: false),
    ]
    let results = try sets.map { data in
      let recipe = try Recipe(yaml: ResumeTests.recipe(method), from: "test")
      let stageRun = try StageRun(recipe.stages[0], data: data, heldOut: nil, seed: 1, index: 0, Context())
      stageRun.method.initialise()
      let loader = try stageRun.loader(from: 0, threads: 1)
      for step in 0..<3 {
        let batch = try loader.next()
        _ = stageRun.gradients(stageRun.input(batch))
        loader.release(batch)
        stageRun.update(step: step)
      }
      return stageRun.method.saved.map { Array($0.bytes) }
    }
    let areEqual = results[0] == results[1] && results[0] == results[2]
    #expect(areEqual)
  }
}
