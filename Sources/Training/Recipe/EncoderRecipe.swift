import Engine
import Shards

/// The encoder, as a recipe writes it.
package struct EncoderRecipe: Options, Sendable, Equatable {
  package static let title = "an encoder"
  package static let required = ["name"]

  package var name = ResNet.Depth.resnet50
  /// Factor on all channel counts, also below 1.
  package var width = 1.0
  package var stem = ResNet.Stem.imagenet
  /// `b`, or `d` for ResNet-D's stem and shortcuts.
  package var variant = ResNet.Variant.b
  /// Share of a bottleneck's channels that the choice between two 3×3 streams squeezes to (SimCLR v2: 0.0625); 0 for
  /// one stream. The reference's one flag switches this on together with `variant: d`.
  package var selectiveKernels = 0.0
  package var zeroInitLastBN = false
  package var initialisation = ResNet.InitialisationScheme.kaiming

  package init() {}

  package func check() throws(RecipeError) {
    guard width.isFinite, width * 64 >= 1, width <= 16 else {
      throw RecipeError("`width` is \(width); it must give at least one channel (1/64) and be at most 16")
    }
    guard (0...1).contains(selectiveKernels) else {
      throw RecipeError("`selectiveKernels` is \(selectiveKernels); it must be 0 (none) to 1; SimCLR v2: 0.0625")
    }
    guard selectiveKernels == 0 || name.hasBottlenecks else {
      throw RecipeError(
        "`selectiveKernels` is \(selectiveKernels), but \(name.rawValue) has no bottlenecks, whose 3×3 they take the "
          + "place of; leave them out, or take resnet50, resnet101 or resnet152")
    }
  }

  package init(
    _ name: ResNet.Depth, width: Double = 1, stem: ResNet.Stem = .imagenet, variant: ResNet.Variant = .b,
    selectiveKernels: Double = 0, zeroInitLastBN: Bool = false, initialisation: ResNet.InitialisationScheme = .kaiming
  ) {
    self.name = name
    self.width = width
    self.stem = stem
    self.variant = variant
    self.selectiveKernels = selectiveKernels
    self.zeroInitLastBN = zeroInitLastBN
    self.initialisation = initialisation
  }

  package func options(channels: Int) -> ImageEncoder.Options {
    .resnet(
      ResNet.Options(
        name, width: width, stem: stem, variant: variant, selectiveKernels: selectiveKernels, channels: channels,
        zeroInitLastBN: zeroInitLastBN, initialisation: initialisation))
  }
}
