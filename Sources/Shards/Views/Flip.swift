import Randomness

/// Horizontal flip, with a probability.
package struct Flip: Augmentation {
  package static let name = "flip"
  package var probability: Double

  package init(probability: Double = 0.5) { self.probability = probability }
  package init(from decoder: any Swift.Decoder) throws { probability = try Double(from: decoder) }
  package func encode(to encoder: any Encoder) throws { try probability.encode(to: encoder) }

  package func validate(_ kind: ViewRecipe, channels: Int) throws(RecipeError) -> [String] {
    try require("flip", probability, in: 0...1)
    return []
  }

  package func apply(to canvas: Canvas, _ key: ViewKey) {
    var draws = key.draws(.flip)
    if draws.chance(probability) { Flip.flip(canvas) }
  }

  package static func flip(_ canvas: Canvas) {
    let size = canvas.size
    let copy = canvas.workspace.floats(.line, size)
    let last = copy + size - 1
    for c in 0..<canvas.channels {
      for row in 0..<size {
        let line = canvas.plane(c) + row * size
        copy.update(from: line, count: size)
        for j in 0..<size { line[j] = last[-j] }
      }
    }
  }
}
