import Foundation
import Randomness

/// Gaussian blur, with a probability. Separable; borders are reflected (without repeating the border itself).
package struct Blur: Augmentation, Options {
  package static let name = "blur"
  package var probability = 0.5
  /// Standard deviation in pixels, drawn uniformly.
  package var sigma = Bounds(0.1, 2)
  /// Taps, odd; without it size/10 forced odd (SimCLR).
  package var kernel: Int?
  package var sharing = Sharing.sample

  /// What shares one sigma.
  package enum Sharing: String, Codable, CaseIterable, Sendable {
    case sample
    /// All images of a batch, for each view (SimCLR's code); which of them are blurred is still drawn singly.
    case batch
  }

  /// An option that is not given has its default.
  package init(
    probability: Double = Blur().probability, sigma: Bounds = Blur().sigma, kernel: Int? = Blur().kernel,
    sharing: Sharing = Blur().sharing
  ) {
    self.probability = probability
    self.sigma = sigma
    self.kernel = kernel
    self.sharing = sharing
  }

  package init() {}

  /// Taps for a view of this size.
  package func taps(size: Int) -> Int { kernel ?? (size / 10 | 1) }

  package func validate(_ kind: ViewRecipe, channels: Int) throws(RecipeError) -> [String] {
    try require("blur.probability", probability, in: 0...1)
    try require("blur.sigma", sigma.low, in: 0.01...1000)
    try require("blur.sigma", sigma.high, in: 0.01...1000)
    let size = kind.size
    let taps = taps(size: size)
    guard taps % 2 == 1, taps > 0, taps / 2 < size else {
      throw RecipeError("blur.kernel is \(taps); expected an odd number below \(2 * size) for views of \(size) pixels")
    }
    if taps == 1, probability > 0 { return ["blur (its kernel is one pixel wide at size \(size))"] }
    return []
  }

  package func apply(to canvas: Canvas, _ key: ViewKey) {
    var draws = key.draws(.blur)
    let chosen = draws.chance(probability)
    var shared = key.batchDraws(.blur)
    let sigma = sharing == .batch ? shared.uniform(in: sigma.range) : draws.uniform(in: sigma.range)
    if chosen { Blur.blur(canvas, sigma: sigma, taps: taps(size: canvas.size)) }
  }

  /// Each output is Σ w[t]·x[i + t - taps/2] with w = exp(-d²/2σ²) normalised over all `taps`. Taps too far out to
  /// change a Float (below 2⁻²⁷ of the centre) are skipped.
  package static func blur(_ canvas: Canvas, sigma: Double, taps: Int) {
    let size = canvas.size
    let full = taps / 2
    let total = (-full...full).reduce(0.0) { $0 + exp(-Double($1 * $1) / (2 * sigma * sigma)) }
    let radius = min(full, Int(sigma * (2 * 27 * log(2.0)).squareRoot()))
    if radius == 0 { return }
    let width = (size + 2 * radius + 79) / 16 * 16
    let rows = size + 2 * radius
    let count = 2 * radius + 1
    let memory = canvas.workspace.floats(.blur, count + width * 2 + (rows + 1) * width)
    let weights = memory
    let line = memory + count
    let blurred = line + width * 2
    for t in 0..<count { weights[t] = Float(exp(-Double((t - radius) * (t - radius)) / (2 * sigma * sigma)) / total) }
    for c in 0..<canvas.channels {
      let plane = canvas.plane(c)
      for row in 0..<size {
        pad(plane + row * size, size, radius, into: line)
        weighted(line, step: 1, weights, count, count: size, into: blurred + (row + radius) * width)
      }
      for r in 1...radius {
        (blurred + (radius - r) * width).update(from: blurred + (radius + r) * width, count: size)
        (blurred + (radius + size - 1 + r) * width).update(from: blurred + (radius + size - 1 - r) * width, count: size)
      }
      for row in 0..<size {
        // It writes whole vectors: the next row overwrites what is too much, and the last row's lies in the padding.
        weighted(blurred + row * width, step: width, weights, count, count: size, into: plane + row * size)
      }
    }
  }

  /// A row with `radius` reflected values on both sides.
  private static func pad(
    _ row: UnsafePointer<Float>, _ size: Int, _ radius: Int, into line: UnsafeMutablePointer<Float>
  ) {
    (line + radius).update(from: row, count: size)
    for r in 1...radius {
      line[radius - r] = row[r]
      line[radius + size - 1 + r] = row[size - 1 - r]
    }
  }
}
