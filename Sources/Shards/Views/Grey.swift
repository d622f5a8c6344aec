import Randomness

/// Replaces red, green and blue by their luminance, with a probability. One channel is grey already.
package struct Grey: Augmentation {
  package static let name = "grey"
  package var probability: Double

  package init(probability: Double = 0.2) { self.probability = probability }
  package init(from decoder: any Swift.Decoder) throws { probability = try Double(from: decoder) }
  package func encode(to encoder: any Encoder) throws { try probability.encode(to: encoder) }

  package func validate(_ kind: ViewRecipe, channels: Int) throws(RecipeError) -> [String] {
    try require("grey", probability, in: 0...1)
    if probability == 0 || channels == 3 { return [] }
    if channels == 1 { return ["grey"] }
    throw RecipeError("grey needs red, green and blue, the data have \(channels) channels; remove it from the view")
  }

  package func apply(to canvas: Canvas, _ key: ViewKey) {
    var draws = key.draws(.grey)
    if canvas.channels == 3, draws.chance(probability) { Grey.grey(canvas) }
  }

  package static func grey(_ canvas: Canvas) {
    let r = canvas.plane(0)
    let g = canvas.plane(1)
    let b = canvas.plane(2)
    for i in 0..<canvas.area {
      let value = luminance(r[i], g[i], b[i])
      r[i] = value
      g[i] = value
      b[i] = value
    }
  }
}

/// ITU-R 601-2 luma with torchvision's rounded weights, which sum to 0.9999.
@inline(__always) func luminance(_ r: Float, _ g: Float, _ b: Float) -> Float {
  (r * 0.2989).addingProduct(g, 0.587).addingProduct(b, 0.114)
}
