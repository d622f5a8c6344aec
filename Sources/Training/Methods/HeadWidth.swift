import Engine

/// The width of a head's layer: a number of channels, or `features` for the encoder's number of features.
package enum HeadWidth: Codable, Sendable, Equatable {
  case features
  case channels(Int)

  /// The number of channels, for an encoder of so many features.
  package func resolved(features: Int) -> Int {
    switch self {
    case .features: features
    case .channels(let count): count
    }
  }

  /// Reads a number from 1 to 65536, or `features`.
  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let count = try? container.decode(Int.self) {
      guard (1...65536).contains(count) else {
        throw decoder.invalid("a layer of \(count) channels; it must have 1 to 65536")
      }
      self = .channels(count)
    } else if try container.decode(String.self) == "features" {
      self = .features
    } else {
      throw decoder.invalid("a head's width is a number of channels or `features`")
    }
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .features: try container.encode("features")
    case .channels(let count): try container.encode(count)
    }
  }
}

extension [HeadWidth] {
  /// Linear layers with bias, without BN, with ReLU in between: the heads of MoCo, AdCo, end-to-end and memory bank.
  func plain(features: Int) -> [Head.Layer] {
    enumerated().map { i, width in
      Head.Layer(width.resolved(features: features), bias: true, relu: i < count - 1)
    }
  }

  /// Linear layers with bias, BN and ReLU; the last without BN and ReLU, and with a bias if `lastBias`. The heads of
  /// BYOL and SwAV.
  func normalised(features: Int, lastBias: Bool) -> [Head.Layer] {
    enumerated().map { i, width in
      let isLast = i == count - 1
      return Head.Layer(
        width.resolved(features: features), bias: lastBias || !isLast, isLast ? .none : .scaleAndShift, relu: !isLast)
    }
  }
}
