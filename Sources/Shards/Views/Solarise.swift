import Randomness

/// Inverts values at and above a threshold, with a probability (BYOL's second view).
package struct Solarise: Augmentation {
  package static let name = "solarise"
  package var probability = 0.2, threshold = 0.5

  package init(probability: Double = 0.2, threshold: Double = 0.5) {
    self.probability = probability
    self.threshold = threshold
  }

  private enum CodingKeys: String, CodingKey, CaseIterable { case probability, threshold }

  package init(from decoder: any Swift.Decoder) throws {
    let keys = try decoder.strict(CodingKeys.self, of: "solarise")
    probability = try keys.value(.probability, default: probability)
    threshold = try keys.value(.threshold, default: threshold)
  }

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
