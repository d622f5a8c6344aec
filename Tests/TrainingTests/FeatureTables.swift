import Randomness
import Training

extension FeatureTable {
  /// Classes as clouds around random centres; a larger `spread` makes them overlap more.
  static func clouds(count: Int, dimension: Int, classes: Int, spread: Double, part: UInt64) -> FeatureTable {
    var centres = Draws(seed: 7, .check, 0)
    var draws = Draws(seed: 7, .check, 1, part)
    let centre = (0..<classes * dimension).map { _ in centres.normal() }
    let labels = (0..<count).map { _ in draws.integer(below: classes) }
    var features: [Float] = []
    for label in labels {
      for i in 0..<dimension { features.append(Float(centre[label * dimension + i] + spread * draws.normal())) }
    }
    return FeatureTable(features: features, labels: labels.map(Int32.init), classCount: classes)
  }
}
