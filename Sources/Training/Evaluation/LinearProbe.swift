import Engine
import Randomness

/// Multinomial logistic regression on frozen, standardised features.
///
/// Each feature is moved to mean 0 and deviation 1 as measured on the training images. The penalty λ is the one of
/// `grid` with the most right answers on a held-out fifth of the training images (ties: the larger λ) after a fit on
/// the other four; then all training images are fitted, from where that fit ended. A fit is full-batch L-BFGS until no
/// part of the gradient exceeds `tolerance` (ten times that while λ is chosen), or for `iterations`; where the last fit
/// did not get there, the result says so. There is no learning rate to tune and no augmentation, so the same features
/// always give the same number.
package struct LinearProbe: Evaluation {
  package static let name = "linear"
  package static let version = 1

  /// Values of λ to choose from; the objective is mean cross-entropy + λ/2 ‖W‖².
  package var grid = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]
  /// Bound on every part of the gradient, as in scikit-learn's logistic regression.
  package var tolerance = 1e-4
  package var iterations = 500
  /// Keys the choice of the held-out fifth.
  package var seed: UInt64 = 0
  package var title: String { "linear probe" }

  package init() {}

  /// Two objectives at a time; parameters and their like in Double for L-BFGS, the choice of λ and the sums.
  package func workspace(_ job: EvaluationSize) -> Int {
    let rows = (job.train + job.test) / job.ranks + 2 * SoftmaxObjective.block
    let objectives = rows * job.dimension * MemoryLayout<Float>.stride + 2 * SoftmaxObjective.bytes(job)
    let vectors = LBFGS.vectors(memory: LBFGS(tolerance: tolerance, iterations: iterations).memory) + 4
    let parameters = (job.dimension + 1) * job.classes
    return objectives + vectors * parameters * MemoryLayout<Double>.stride
      + 3 * job.train * MemoryLayout<Int>.stride
  }

  package func run(train: FeatureTable, test: FeatureTable, on context: Context) throws -> EvaluationResult {
    let start = ContinuousClock().now
    try check(train, test)
    let scaling = Standardisation(train)
    var (penalty, heldOut, parameters) = choose(train, scaling, context)
    let objective = SoftmaxObjective(train, rows: Array(0..<train.count), scaling, on: context)
    objective.penalty = penalty
    let outcome = fit(objective, &parameters, tolerance)
    let scored = SoftmaxObjective(test, rows: Array(0..<test.count), scaling, on: context).correct(parameters)
    return Classification(top1: scored.top1, top5: scored.top5).result(
      of: self, train: train, test: test,
      options: [
        "grid": .list(grid.map { .number($0) }), "tolerance": .number(tolerance), "iterations": .number(iterations),
        "seed": .number(Int(seed)), "penalty": .number(penalty), "held_out": .number(heldOut),
        "iterations_taken": .number(outcome.iterations), "gradient": .number(rounded(outcome.gradient)),
      ],
      notes: notes(penalty, heldOut, outcome, train), since: start,
      context.communicator)
  }

  /// λ, how many training images were held out to choose it, and where that fit ended.
  private func choose(
    _ train: FeatureTable, _ scaling: Standardisation, _ context: Context
  ) -> (penalty: Double, held: Int, parameters: [Double]) {
    let held = train.count / 5
    var parameters = [Double](repeating: 0, count: (train.dimension + 1) * train.classCount)
    if held == 0 || grid.count == 1 { return (grid.sorted()[grid.count / 2], 0, parameters) }
    var draws = Draws(seed: seed, .probe)
    let order = draws.shuffled(train.count)
    let objective = SoftmaxObjective(train, rows: order[held...].sorted(), scaling, on: context)
    let judge = SoftmaxObjective(train, rows: order[..<held].sorted(), scaling, on: context)
    var best = (penalty: grid[0], correct: -1, parameters: parameters)
    for penalty in grid.sorted(by: >) {  // Each starts where the stronger penalty ended.
      objective.penalty = penalty
      _ = fit(objective, &parameters, 10 * tolerance)
      let correct = context.communicator.allReduce(judge.correct(parameters).top1.reduce(0, +), .sum)
      if correct > best.correct { best = (penalty, correct, parameters) }
    }
    return (best.penalty, held, best.parameters)
  }

  private func fit(_ objective: SoftmaxObjective, _ parameters: inout [Double], _ tolerance: Double) -> LBFGS.Outcome {
    LBFGS(tolerance: tolerance, iterations: iterations).minimise(&parameters) { objective.evaluate($0, gradient: &$1) }
  }

  private func notes(_ penalty: Double, _ held: Int, _ outcome: LBFGS.Outcome, _ train: FeatureTable) -> [String] {
    var notes: [String] = []
    if held == 0 {
      notes.append("λ is \(penalty) without a choice: \(train.count) training images are too few to hold some out")
    } else if penalty == grid.min() || penalty == grid.max() {
      notes.append("the chosen λ of \(penalty) is at the border of its grid")
    }
    if !outcome.converged {
      notes.append(
        "the fit stopped after \(outcome.iterations) iterations with a gradient of \(rounded(outcome.gradient)), "
          + "above the bound of \(tolerance)")
    }
    return notes
  }

  /// Three digits: further ones depend on the ranks' rounding.
  private func rounded(_ value: Double) -> Double {
    guard value > 0, value.isFinite else { return value }
    var scale = 1.0
    var mantissa = value
    while mantissa < 100 {
      mantissa *= 10
      scale *= 10
    }
    return mantissa.rounded() / scale
  }
}
