/// Subtracts a mean and divides by a deviation, channel by channel; a view's last operation. Without it values stay in
/// [0, 1].
package enum Normalise: Augmentation {
  package static let name = "normalise"
  /// The data set's own mean and deviation.
  case dataset
  /// ImageNet's, for three channels.
  case imagenet
  case none
  case explicit(mean: [Double], deviation: [Double])

  private enum CodingKeys: String, CodingKey, CaseIterable { case mean, deviation }

  package init(from decoder: any Swift.Decoder) throws {
    if let name = try? decoder.singleValueContainer().decode(String.self) {
      switch name {
      case "dataset": self = .dataset
      case "imagenet": self = .imagenet
      case "none": self = .none
      default: throw decoder.unknown(name, known: ["dataset", "imagenet", "none"], of: "normalise")
      }
      return
    }
    let keys = try decoder.strict(CodingKeys.self, of: "normalise")
    self = .explicit(
      mean: try keys.decode([Double].self, forKey: .mean),
      deviation: try keys.decode([Double].self, forKey: .deviation))
  }

  package func encode(to encoder: any Encoder) throws {
    if case .explicit(let mean, let deviation) = self {
      var keys = encoder.container(keyedBy: CodingKeys.self)
      try keys.encode(mean, forKey: .mean)
      try keys.encode(deviation, forKey: .deviation)
      return
    }
    var value = encoder.singleValueContainer()
    switch self {
    case .dataset: try value.encode("dataset")
    case .imagenet: try value.encode("imagenet")
    case .none, .explicit: try value.encode("none")
    }
  }

  package func validate(_ kind: ViewRecipe, channels: Int) throws(RecipeError) -> [String] {
    if self == .imagenet, channels != 3 {
      throw RecipeError("normalise: imagenet has 3 channels, the data have \(channels); use `dataset`")
    }
    guard case .explicit(let mean, let deviation) = self else { return [] }
    guard mean.count == channels, deviation.count == channels, deviation.allSatisfy({ $0 > 0 && $0.isFinite }) else {
      throw RecipeError(
        "normalise: mean \(mean) and deviation \(deviation); expected \(channels) of each, deviations above 0")
    }
    return []
  }

  package func resolved(mean: [Double], deviation: [Double]) -> any Augmentation {
    switch self {
    // A constant channel has no deviation to divide by.
    case .dataset: Normalise.explicit(mean: mean, deviation: deviation.map { $0 > 1e-6 ? $0 : 1 })
    case .imagenet: Normalise.explicit(mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225])
    default: self
    }
  }

  package func apply(to canvas: Canvas, _ key: ViewKey) {
    guard case .explicit(let mean, let deviation) = self else {
      precondition(self == .none, "normalise: \(self) is not resolved")
      return
    }
    for c in 0..<canvas.channels {
      let p = canvas.plane(c)
      let shift = Float(mean[c])
      let factor = Float(1 / deviation[c])
      for i in 0..<canvas.area { p[i] = (p[i] - shift) * factor }
    }
  }
}
