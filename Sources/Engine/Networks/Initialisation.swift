import Foundation
import Randomness

/// How a parameter starts. Draws are keyed by (seed, name), so they do not depend on the order in which layers are
/// made.
package enum Initialisation: Sendable, Equatable {
  case constant(Float)
  /// Normal with the given standard deviation.
  case normal(Double)
  /// Normal, truncated at two deviations of the untruncated one (TensorFlow's VarianceScaling).
  case truncatedNormal(Double)
  /// Uniform in ± bound.
  case uniform(Double)

  /// He et al. 2015, fan-out, gain √2: torchvision's ResNet convolutions.
  package static func kaimingFanOut(_ fanOut: Int) -> Initialisation { .normal((2 / Double(fanOut)).squareRoot()) }

  /// torch.nn.Linear's default: uniform in ± 1/√fan-in, for weight and bias.
  package static func torchLinear(fanIn: Int) -> Initialisation { .uniform(1 / Double(fanIn).squareRoot()) }

  /// SimCLR's convolutions: normal of variance 1/fan-in, truncated at two deviations and widened so that the variance
  /// holds (google-research/simclr `tf2/resnet.py`, TensorFlow's VarianceScaling with its defaults).
  package static func varianceScaling(fanIn: Int) -> Initialisation {
    .truncatedNormal((1 / Double(fanIn)).squareRoot() / 0.87962566103423978)
  }

  package func fill(_ values: UnsafeMutableBufferPointer<Float>, seed: UInt64, name: String) {
    var draws = Draws(seed: seed, .initialisation, named: name)
    switch self {
    case .constant(let value): values.update(repeating: value)
    case .normal(let deviation):
      for i in values.indices { values[i] = Float(deviation * draws.normal()) }
    case .truncatedNormal(let deviation):
      for i in values.indices {
        var z = draws.normal()
        while abs(z) > 2 { z = draws.normal() }
        values[i] = Float(deviation * z)
      }
    case .uniform(let bound):
      for i in values.indices { values[i] = Float(draws.uniform(in: -bound...bound)) }
    }
  }
}
