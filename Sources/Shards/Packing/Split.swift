import Randomness

/// Decides by an image's key alone, so that the decision for one image does not depend on which others there are.
package enum Split {
  /// Whether an image is held out.
  package static func holdsOut(_ key: String, _ fraction: Double) -> Bool {
    var draws = Draws(seed: 0, .split, named: key)
    return draws.uniform() < fraction
  }

  /// Where an image stands among all: a random order that puts the classes of a sorted folder side by side.
  static func rank(_ key: String) -> UInt64 {
    var draws = Draws(seed: 0, .order, named: key)
    return UInt64(draws.bits()) << 32 | UInt64(draws.bits())
  }

  /// The images in the order of their ranks.
  static func ordered(_ images: [PackSource.Image]) -> [PackSource.Image] {
    images.map { (rank($0.key), $0) }.sorted { ($0.0, $0.1.key) < ($1.0, $1.1.key) }.map(\.1)
  }
}
