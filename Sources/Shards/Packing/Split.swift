import Randomness

/// Decides by an image's key alone, so that the decision for one image does not depend on which others there are.
package enum Split {
  /// Whether an image is held out.
  /// - Parameter fraction: share of all images that is.
  package static func holdsOut(_ key: String, _ fraction: Double) -> Bool {
    var draws = Draws(seed: 0, .split, named: key)
    return draws.uniform() < fraction
  }

  /// The images in the order of a hash of their keys, which mixes the classes of a sorted folder.
  static func ordered(_ images: [SourceImage]) -> [SourceImage] {
    let ranked = images.map { (rank: rank($0.key.text), image: $0) }
    return ranked.sorted { ($0.rank, $0.image.key) < ($1.rank, $1.image.key) }.map(\.image)
  }

  private static func rank(_ key: String) -> UInt64 {
    var draws = Draws(seed: 0, .order, named: key)
    let high = UInt64(draws.bits())
    return high << 32 | UInt64(draws.bits())
  }
}
