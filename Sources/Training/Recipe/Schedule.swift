import Foundation
import Shards

/// The learning rate as a pure function of the step: there is nothing to restore on resume.
package struct Schedule: Options, Sendable, Equatable {
  package static let title = "a schedule"

  package enum Shape: String, Codable, Sendable, CaseIterable { case constant, cosine, step, exponential }
  package enum Unit: String, Codable, Sendable, CaseIterable { case step, epoch }
  package enum WarmupEnd: String, Codable, Sendable, CaseIterable {
    /// The one after the warm-up (SimCLR, BYOL).
    case exclusive
    /// The last one of the warm-up (SwAV's `np.linspace`).
    case inclusive
  }

  package var name = Shape.cosine
  /// Linear before the shape begins (SimCLR: 10 epochs).
  package var warmup = Length.steps(0)
  /// Where the warm-up starts, as a rate (SwAV: 0.3 at batch 4096); scaled like the rate itself.
  package var start = 0.0
  /// Which step is the first at the full rate.
  package var warmupEnds = WarmupEnd.exclusive
  /// How often the rate moves: MoCo's reference moves it by epoch, SimCLR's by step.
  package var per = Unit.step
  /// cosine: where it ends, as a rate (AdCo 0.0006, SwAV 0.0006); scaled like the rate itself.
  package var final = 0.0
  /// step: where the rate is multiplied by `factor`. exponential: `every` so long.
  package var at: [Length] = []
  package var every: Length?
  package var factor = 0.1

  package init() {}

  package init(
    _ name: Shape, warmup: Length = .steps(0), start: Double = 0, warmupEnds: WarmupEnd = .exclusive,
    per: Unit = .step, final: Double = 0, at: [Length] = [], every: Length? = nil, factor: Double = 0.1
  ) {
    self.name = name
    self.warmup = warmup
    self.start = start
    self.warmupEnds = warmupEnds
    self.per = per
    self.final = final
    self.at = at
    self.every = every
    self.factor = factor
  }

  package func check() throws(RecipeError) {
    guard start >= 0, final >= 0, factor > 0, factor <= 1 else {
      throw RecipeError(
        "start is \(start), final \(final) and factor \(factor); start and final must be at least 0, factor in (0, 1]")
    }
    try every?.requireAboveZero("every")
    if name == .step && at.isEmpty {
      throw RecipeError("a step schedule needs `at`, such as [120 epochs, 160 epochs]")
    }
    if name == .exponential && every == nil {
      throw RecipeError("an exponential schedule needs `every`, such as 62500 steps")
    }
  }

  /// Warns of parts that lie behind the end of the run.
  package func warnings(_ plan: RunPlan) -> [String] {
    let steps = plan.steps(warmup)
    guard steps >= plan.totalSteps else { return [] }
    return [
      "schedule.warmup is \(warmup), \(steps) steps, but the run has \(plan.totalSteps): the rate is still rising at "
        + "the end and never reaches optimizer.rate; shorten the warm-up, or lengthen the run"
    ]
  }

  /// The rate of a step.
  /// - Parameters:
  ///   - step: from 0.
  ///   - base: the rate after scaling.
  ///   - scale: what `base` was scaled by, for `final`.
  ///   - plan: how long the run is.
  package func rate(step: Int, base: Double, scale: Double, _ plan: RunPlan) -> Double {
    func steps(_ length: Length) -> Int { plan.steps(length) }
    let warmup = steps(warmup)
    if step < warmup {
      let first = start * scale
      let intervals = warmupEnds == .inclusive ? max(1, warmup - 1) : warmup
      return first + (base - first) * Double(step) / Double(intervals)
    }
    // The shape is a function of the step, or of the epoch's first step.
    let now = per == .step ? step : step / plan.stepsPerEpoch * plan.stepsPerEpoch
    let passed = Double(max(0, now - warmup))
    let length = Double(max(1, plan.totalSteps - warmup))
    switch name {
    case .constant: return base
    case .cosine:
      let end = final * scale
      return end + (base - end) * 0.5 * (1 + cos(.pi * passed / length))
    case .step: return base * pow(factor, Double(at.count { steps($0) <= now }))
    case .exponential: return base * pow(factor, floor(Double(now) / Double(max(1, steps(every!)))))
    }
  }
}
