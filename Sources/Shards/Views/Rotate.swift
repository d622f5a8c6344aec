import Randomness

/// Turns a view counter-clockwise by quarters; their number is its target. Gidaris, Singh and Komodakis 2018,
/// arXiv:1803.07728.
package enum Rotate: String, CaseIterable, Augmentation, Puzzle {
  package static let name = "rotate"
  /// View i of the kind by i quarters: four views have all of them, as the paper's batches do.
  case each
  /// Each view by a number that is drawn.
  case random

  package var answers: Int { 4 }

  package func validate(_ kind: ViewRecipe, channels: Int) throws(RecipeError) -> [String] { [] }

  package func target(_ key: ViewKey) -> Int {
    switch self {
    case .each: return key.index % 4
    case .random:
      var draws = key.draws(.rotate)
      return draws.integer(below: 4)
    }
  }

  package func apply(to canvas: Canvas, _ key: ViewKey) {
    for _ in 0..<target(key) { Rotate.quarter(canvas) }
  }

  /// One quarter counter-clockwise: what is at the right comes to the top.
  package static func quarter(_ canvas: Canvas) {
    let last = canvas.size - 1
    for c in 0..<canvas.channels {
      let plane = canvas.plane(c)
      // Four values change places at a time; a quarter of the square holds one of each four.
      for i in 0..<canvas.size / 2 {
        for j in 0..<(canvas.size + 1) / 2 {
          let top = i * canvas.size + j
          let left = (last - j) * canvas.size + i
          let bottom = (last - i) * canvas.size + last - j
          let right = j * canvas.size + last - i
          let kept = plane[top]
          plane[top] = plane[right]
          plane[right] = plane[bottom]
          plane[bottom] = plane[left]
          plane[left] = kept
        }
      }
    }
  }
}
