import Engine
import Shards

/// The encoder, as a recipe writes it.
package struct EncoderRecipe: Codable, Sendable, Equatable {
  package var name: ResNet.Depth
  /// Factor on all channel counts, also below 1.
  package var width: Double
  package var stem: ResNet.Stem
  package var zeroInitLastBN: Bool
  package var initialisation: ResNet.InitialisationScheme

  enum CodingKeys: String, CodingKey, CaseIterable { case name, width, stem, zeroInitLastBN, initialisation }

  package init(from decoder: any Decoder) throws {
    let values = try decoder.strict(CodingKeys.self, of: "an encoder")
    name = try values.decode(ResNet.Depth.self, forKey: .name)
    width = try values.value(.width, default: 1)
    stem = try values.value(.stem, default: .imagenet)
    zeroInitLastBN = try values.value(.zeroInitLastBN, default: false)
    initialisation = try values.value(.initialisation, default: .kaiming)
    guard width.isFinite, width * 64 >= 1, width <= 16 else {
      throw decoder.invalid("`width` is \(width); it must give at least one channel (1/64) and be at most 16")
    }
  }

  package init(_ name: ResNet.Depth, width: Double = 1, stem: ResNet.Stem = .imagenet, zeroInitLastBN: Bool = false, initialisation: ResNet.InitialisationScheme = .kaiming) {
    (self.name, self.width, self.stem) = (name, width, stem)
    (self.zeroInitLastBN, self.initialisation) = (zeroInitLastBN, initialisation)
  }

  package func options(channels: Int) -> ResNet.Options {
    ResNet.Options(name, width: width, stem: stem, channels: channels, zeroInitLastBN: zeroInitLastBN, initialisation: initialisation)
  }
}
