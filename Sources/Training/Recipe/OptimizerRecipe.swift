import Engine
import Foundation
import Shards

/// An optimizer and its rate, as a recipe writes them.
package struct OptimizerRecipe: Codable, Sendable, Equatable {
  package enum Name: String, Codable, Sendable, CaseIterable { case sgd, lars }

  /// How the rate follows the batch.
  package enum Scaling: String, Codable, Sendable, CaseIterable {
    /// rate × B/256 (Goyal et al. 2017, arXiv:1706.02677)
    case linear
    /// rate × √B (SimCLR's for small batches: 0.075·√B)
    case squareRoot
    case none

    package func factor(batch: Int) -> Double {
      switch self {
      case .linear: Double(batch) / 256
      case .squareRoot: Double(batch).squareRoot()
      case .none: 1
      }
    }
  }

  package var name: Name
  package var rate: Double
  package var scaling: Scaling
  package var momentum: Double
  package var nesterov: Bool
  package var decay: Double
  /// Kinds of parameters without decay, and for LARS without trust.
  package var exclude: [Exclusion]
  /// LARS: η, and which of the two families.
  package var trust: Double
  package var rateIn: LARS.RatePlacement
  package var ratio: LARS.TrustRatio

  enum CodingKeys: String, CodingKey, CaseIterable {
    case name, rate, scaling, momentum, nesterov, decay, exclude, trust, rateIn, ratio
  }

  package init(from decoder: any Decoder) throws {
    let values = try decoder.strict(CodingKeys.self, of: "an optimizer")
    name = try values.decode(Name.self, forKey: .name)
    rate = try values.decode(Double.self, forKey: .rate)
    scaling = try values.value(.scaling, default: .linear)
    momentum = try values.value(.momentum, default: 0.9)
    nesterov = try values.value(.nesterov, default: false)
    decay = try values.value(.decay, default: name == .sgd ? 1e-4 : 1e-6)
    exclude = try values.value(.exclude, default: name == .sgd ? [] : [.normalisation, .bias])
    trust = try values.value(.trust, default: 1e-3)
    rateIn = try values.value(.rateIn, default: .inside)
    ratio = try values.value(.ratio, default: .combined)
    func check(_ value: Double, _ key: CodingKeys, _ isAllowed: Bool, _ range: String) throws {
      if !isAllowed || !value.isFinite {
        throw decoder.invalid("`\(key.stringValue)` is \(value); it must be \(range)")
      }
    }
    try check(rate, .rate, rate > 0, "above 0")
    try check(momentum, .momentum, 0 <= momentum && momentum < 1, "in [0, 1)")
    try check(decay, .decay, decay >= 0, "at least 0")
    try check(trust, .trust, trust > 0, "above 0")
  }

  package func make() -> any Optimizer {
    switch name {
    case .sgd: SGD(momentum: Float(momentum), nesterov: nesterov, decay: Float(decay), exclude: exclude)
    case .lars:
      LARS(
        momentum: Float(momentum), nesterov: nesterov, decay: Float(decay), trust: Float(trust), rateIn: rateIn,
        ratio: ratio,
        exclude: exclude)
    }
  }
}
