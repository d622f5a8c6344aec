/// A recipe that the binary carries: a file in `Recipes`, whose first comment line describes it.
package struct BuiltInRecipe: Sendable {
  package let name: String
  /// The file, comments included.
  package let text: String

  fileprivate init(_ name: String, _ bytes: [UInt8]) {
    self.name = name
    text = String(decoding: bytes, as: UTF8.self)
  }

  /// One line.
  package var description: String {
    let line = text.prefix { !$0.isNewline }
    return line.hasPrefix("#") ? line.dropFirst().trimmingPrefix(while: \.isWhitespace).description : ""
  }
}

/// The table of recipes. To add one, write its file and its row here.
package enum BuiltInRecipes {
  package static let all: [BuiltInRecipe] = [
    BuiltInRecipe("adco-graytiles", PackageResources.adco_graytiles_yaml),
    BuiltInRecipe("adco-imagenet", PackageResources.adco_imagenet_yaml),
    BuiltInRecipe("adco-linear-v1", PackageResources.adco_linear_v1_yaml),
    BuiltInRecipe("base", PackageResources.base_yaml),
    BuiltInRecipe("base-small", PackageResources.base_small_yaml),
    BuiltInRecipe("byol-graytiles", PackageResources.byol_graytiles_yaml),
    BuiltInRecipe("byol-imagenet", PackageResources.byol_imagenet_yaml),
    BuiltInRecipe("byol-linear-v1", PackageResources.byol_linear_v1_yaml),
    BuiltInRecipe("distil", PackageResources.distil_yaml),
    BuiltInRecipe("end-to-end-graytiles", PackageResources.end_to_end_graytiles_yaml),
    BuiltInRecipe("end-to-end-imagenet", PackageResources.end_to_end_imagenet_yaml),
    BuiltInRecipe("finetune", PackageResources.finetune_yaml),
    BuiltInRecipe("hpt", PackageResources.hpt_yaml),
    BuiltInRecipe("hpt-bn", PackageResources.hpt_bn_yaml),
    BuiltInRecipe("hpt-bn-small", PackageResources.hpt_bn_small_yaml),
    BuiltInRecipe("hpt-linear-v1", PackageResources.hpt_linear_v1_yaml),
    BuiltInRecipe("hpt-small", PackageResources.hpt_small_yaml),
    BuiltInRecipe("memory-bank-graytiles", PackageResources.memory_bank_graytiles_yaml),
    BuiltInRecipe("memory-bank-imagenet", PackageResources.memory_bank_imagenet_yaml),
    BuiltInRecipe("moco-linear-v1", PackageResources.moco_linear_v1_yaml),
    BuiltInRecipe("moco-v1-graytiles", PackageResources.moco_v1_graytiles_yaml),
    BuiltInRecipe("moco-v1-ig1b", PackageResources.moco_v1_ig1b_yaml),
    BuiltInRecipe("moco-v1-imagenet", PackageResources.moco_v1_imagenet_yaml),
    BuiltInRecipe("moco-v2-fashion", PackageResources.moco_v2_fashion_yaml),
    BuiltInRecipe("moco-v2-graytiles", PackageResources.moco_v2_graytiles_yaml),
    BuiltInRecipe("moco-v2-imagenet", PackageResources.moco_v2_imagenet_yaml),
    BuiltInRecipe("simclr-linear-v1", PackageResources.simclr_linear_v1_yaml),
    BuiltInRecipe("simclr-v1-fashion", PackageResources.simclr_v1_fashion_yaml),
    BuiltInRecipe("simclr-v1-graytiles", PackageResources.simclr_v1_graytiles_yaml),
    BuiltInRecipe("simclr-v1-imagenet", PackageResources.simclr_v1_imagenet_yaml),
    BuiltInRecipe("simclr-v2-graytiles", PackageResources.simclr_v2_graytiles_yaml),
    BuiltInRecipe("simclr-v2-imagenet", PackageResources.simclr_v2_imagenet_yaml),
    BuiltInRecipe("simclr-v2-semi-supervised", PackageResources.simclr_v2_semi_supervised_yaml),
    BuiltInRecipe("simclr-v2-semi-supervised-graytiles", PackageResources.simclr_v2_semi_supervised_graytiles_yaml),
    BuiltInRecipe("swav-graytiles", PackageResources.swav_graytiles_yaml),
    BuiltInRecipe("swav-imagenet", PackageResources.swav_imagenet_yaml),
    BuiltInRecipe("swav-linear-v1", PackageResources.swav_linear_v1_yaml),
    BuiltInRecipe("target", PackageResources.target_yaml),
    BuiltInRecipe("target-small", PackageResources.target_small_yaml),
  ]

  package static let names = all.map(\.name)

  package static subscript(name: String) -> BuiltInRecipe? { all.first { $0.name == name } }
}
