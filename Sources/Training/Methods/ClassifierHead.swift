import Engine
import Shards

/// A classifier of the data set's classes, and the layers of a pre-trained head that stay below it.
package struct ClassifierHead: Options, Sendable, Equatable {
  package static let title = "a classifier"
  /// The part of the network that it is.
  static let part: PartName = "classifier"
  /// Where the scores come out.
  static let tap = Network.Tap.head(part)

  /// Layers between encoder and classifier, as the head of the stage that it starts from has them: SimCLR v2 keeps the
  /// first. Their part is `head`, as there.
  package var layers: [HeadLayer] = []
  /// Deviation of the classifier's initial weights: 0 starts it at zero (SimCLR), 0.01 is MoCo's and BYOL's probe.
  package var deviation = InitialDeviation.of(0)

  package init() {}

  package func check() throws(RecipeError) {
    if case .of(let value) = deviation { try require("deviation", value, value >= 0, "0 or more") }
  }

  /// Head and classifier of a network.
  func plans(features: Int, classes: Int) -> [HeadPlan] {
    let weight: Initialisation? =
      switch deviation {
      case .torch: nil
      case .of(let value): value == 0 ? .constant(0) : .normal(value)
      }
    let classifier = Head.Layer(classes, bias: true, weight: weight)
    return [
      HeadPlan(.head, layers.map { $0.layer(features: features) }),
      HeadPlan(Self.part, from: .tap(layers.isEmpty ? .features : .embedding), [classifier], numbered: false),
    ]
  }
}

/// The deviation of initial weights: a number, or `torch` for PyTorch's default, uniform of deviation 1/√(3 · inputs).
package enum InitialDeviation: Codable, Sendable, Equatable {
  case torch
  case of(Double)

  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let value = try? container.decode(Double.self) {
      self = .of(value)
      return
    }
    let word = try container.decode(String.self)
    guard word == "torch" else { throw decoder.unknown(word, known: ["torch"], of: "deviations, beside a number") }
    self = .torch
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .torch: try container.encode("torch")
    case .of(let value): try container.encode(value)
    }
  }
}

/// A layer of a head, as a recipe writes it. The defaults are those of SimCLR's hidden layers.
package struct HeadLayer: Options, Sendable, Equatable {
  package static let title = "a layer of a head"

  package var width = HeadWidth.features
  package var bias = false
  package var normalisation = Head.Normalisation.scaleAndShift
  package var relu = true

  package init() {}

  /// A layer of a network.
  package init(_ layer: Head.Layer, features: Int) {
    width = layer.outputs == features ? .features : .channels(layer.outputs)
    bias = layer.bias
    normalisation = layer.normalisation
    relu = layer.relu
  }

  func layer(features: Int) -> Head.Layer {
    Head.Layer(width.resolved(features: features), bias: bias, normalisation, relu: relu)
  }
}
