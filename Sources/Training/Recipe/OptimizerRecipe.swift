import Engine
import Foundation
import Shards

/// An optimizer and its rate, as a recipe writes them: `{name: sgd, rate: 0.03, …}`, the other keys as the optimizer
/// defines them.
package struct OptimizerRecipe: Codable, Sendable {
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

  package var algorithm: any Optimizer
  package var rate: Double
  package var scaling: Scaling

  private enum CodingKeys: String, CodingKey, CaseIterable { case name, rate, scaling }
  /// Runs of earlier versions wrote down LARS's options for every optimizer.
  private static let writtenForAll = ["trust", "rateIn", "ratio"]

  package init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    let name = try values.decode(String.self, forKey: .name)
    guard let type = Optimizers.all.first(where: { $0.name == name }) else {
      throw decoder.unknown(name, known: Optimizers.all.map { $0.name }, of: "the table of optimizers")
    }
    let common = CodingKeys.allCases.map(\.stringValue)
    algorithm = try decoder.options(
      type.init(), of: name, besides: common, ignoring: type == SGD.self ? Self.writtenForAll : [])
    rate = try values.decode(Double.self, forKey: .rate)
    scaling = try values.value(.scaling, default: type.scalesWithBatch ? .linear : .none)
    guard rate > 0, rate.isFinite else { throw decoder.invalid("`rate` is \(rate); it must be above 0") }
    if let refusal = algorithm.refusals.first {
      throw decoder.invalid("`\(refusal.key)` is \(refusal.value); it must be \(refusal.range)")
    }
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(type(of: algorithm).name, forKey: .name)
    try container.encode(rate, forKey: .rate)
    try container.encode(scaling, forKey: .scaling)
    try algorithm.encode(to: encoder)
  }
}
