import Engine
import Shards

/// How the batch is divided for normalisation: `global`, `{group: 32}` or `{shuffle: 32}` (images).
package struct BatchNormRecipe: Codable, Sendable, Equatable {
  package var groups: NormalisationGroups
  package init(_ groups: NormalisationGroups) { self.groups = groups }

  private enum Keys: String, CodingKey, CaseIterable { case group, shuffle }

  package init(from decoder: any Decoder) throws {
    if let word = try? decoder.singleValueContainer().decode(String.self) {
      guard word == "global" else {
        throw decoder.invalid("batchNorm is `\(word)`; it can be `global`, `{group: IMAGES}` or `{shuffle: IMAGES}`")
      }
      groups = .global
      return
    }
    let values = try decoder.strict(Keys.self, of: "batchNorm")
    let group = try values.decodeIfPresent(Int.self, forKey: .group)
    let shuffle = try values.decodeIfPresent(Int.self, forKey: .shuffle)
    switch (group, shuffle) {
    case (let images?, nil) where images >= 2: groups = .group(images: images)
    case (nil, let images?) where images >= 2: groups = .shuffle(images: images)
    default: throw decoder.invalid("batchNorm needs either `group` or `shuffle`, with at least 2 images in a group")
    }
  }

  package func encode(to encoder: any Encoder) throws {
    switch groups {
    case .global:
      var container = encoder.singleValueContainer()
      try container.encode("global")
    case .group(let images):
      var container = encoder.container(keyedBy: Keys.self)
      try container.encode(images, forKey: .group)
    case .shuffle(let images):
      var container = encoder.container(keyedBy: Keys.self)
      try container.encode(images, forKey: .shuffle)
    }
  }
}
