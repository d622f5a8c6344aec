import Randomness

/// Inverts values at and above a threshold, with a probability (BYOL's second view).
package struct Solarise: Augmentation, Options {
  package static let name = "solarise"
  package var probability = 0.2
  package var threshold = 0.5

  /// An option that is not given has its default.
  package init(probability: Double = Solarise().probability, threshold: Double = Solarise().threshold) {
    self.probability = probability
    self.threshold = threshold
  }

  package init() {}

  package func validate(_ kind: ViewRecipe, channels: Int) throws(RecipeError) -> [String] {
    try require("solarise.probability", probability, in: 0...1)
    try require("solarise.threshold", threshold, in: 0...1)
    return []
  }

  package func apply(to canvas: Canvas, _ key: ViewKey) {
    var draws = key.draws(.solarise)
    if draws.chance(probability) { Solarise.solarise(canvas, threshold: Float(threshold)) }
  }

  package static func solarise(_ canvas: Canvas, threshold: Float) {
    for c in 0..<canvas.channels {
      let p = canvas.plane(c)
      for i in 0..<canvas.area { p[i] = p[i] >= threshold ? 1 - p[i] : p[i] }
    }
  }
}
