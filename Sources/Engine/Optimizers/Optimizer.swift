/// Turns gradients into an update of the parameters. Gradients are never changed.
///
/// The stored properties are its options in a recipe. Adding one is a file and a row in `Optimizers.all`.
package protocol Optimizer: Codable, Sendable {
  /// In a recipe, such as `sgd`.
  static var name: String { get }
  /// Names of its state slabs, in checkpoints: each has the parameters' layout and starts at 0.
  static var slabs: [String] { get }
  /// Whether its rate is usually given for a batch of 256 and grows with the batch.
  static var scalesWithBatch: Bool { get }
  /// λ, the weight decay.
  var decay: Double { get }
  /// Kinds of parameters without decay.
  var exclude: [Exclusion] { get }
  /// Every option at its default.
  init()
  /// Options that cannot work: key, value, and what it must be.
  var refusals: [(key: String, value: Double, range: String)] { get }
  /// - Parameters:
  ///   - parameters: updated.
  ///   - gradients: summed over ranks, scaled by the loss.
  ///   - state: a slab for each name in `slabs`.
  ///   - step: of the stage, from 0.
  ///   - rate: the schedule's value at this step.
  func update(
    _ parameters: ParameterSlab, _ gradients: ParameterSlab, state: [ParameterSlab], step: Int, rate: Float,
    _ context: Context)
}

/// The table of optimizers.
package enum Optimizers {
  package static let all: [any Optimizer.Type] = [SGD.self, LARS.self, Adam.self]
}

extension Optimizer {
  package static var scalesWithBatch: Bool { true }

  /// Whether a parameter is of a kind without decay.
  func excludes(_ entry: ParameterLayout.Entry) -> Bool { exclude.contains { $0.covers(entry.kind) } }

  /// λ of a parameter, by its kind and its rule.
  func decay(of entry: ParameterLayout.Entry) -> Float {
    excludes(entry) ? 0 : Float(decay) * entry.decayFactor
  }

  /// A refusal of each value that is negative or not finite.
  func negative(_ values: [(String, Double)]) -> [(key: String, value: Double, range: String)] {
    values.filter { !($0.1 >= 0 && $0.1.isFinite) }.map { ($0.0, $0.1, "at least 0") }
  }

  /// A refusal of each decay of an average that is not in [0, 1).
  func unsteady(_ values: [(String, Double)]) -> [(key: String, value: Double, range: String)] {
    values.filter { !(0 <= $0.1 && $0.1 < 1) }.map { ($0.0, $0.1, "in [0, 1)") }
  }

  /// A refusal of each value that is not above 0.
  func notPositive(_ values: [(String, Double)]) -> [(key: String, value: Double, range: String)] {
    values.filter { !($0.1 > 0 && $0.1.isFinite) }.map { ($0.0, $0.1, "above 0") }
  }
}

/// Which kinds of parameters an optimizer leaves out of decay and trust.
package enum Exclusion: String, Codable, Sendable, CaseIterable {
  case normalisation, bias

  package func covers(_ kind: ParameterKind) -> Bool {
    switch self {
    case .normalisation: kind == .scale || kind == .shift
    case .bias: kind == .bias
    }
  }
}
