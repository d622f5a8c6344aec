/// The recipes that the binary carries, by name. To add one, write its file, its row here and its row in Package.swift.
package enum BuiltInRecipes {
  package static let all: [String: String] = [
    "adco-graytiles": text(PackageResources.adco_graytiles_yaml),
    "adco-imagenet": text(PackageResources.adco_imagenet_yaml),
    "byol-graytiles": text(PackageResources.byol_graytiles_yaml),
    "byol-imagenet": text(PackageResources.byol_imagenet_yaml),
    "end-to-end-graytiles": text(PackageResources.end_to_end_graytiles_yaml),
    "end-to-end-imagenet": text(PackageResources.end_to_end_imagenet_yaml),
    "memory-bank-graytiles": text(PackageResources.memory_bank_graytiles_yaml),
    "memory-bank-imagenet": text(PackageResources.memory_bank_imagenet_yaml),
    "moco-v1-graytiles": text(PackageResources.moco_v1_graytiles_yaml),
    "moco-v1-ig1b": text(PackageResources.moco_v1_ig1b_yaml),
    "moco-v1-imagenet": text(PackageResources.moco_v1_imagenet_yaml),
    "moco-v2-fashion": text(PackageResources.moco_v2_fashion_yaml),
    "moco-v2-graytiles": text(PackageResources.moco_v2_graytiles_yaml),
    "moco-v2-imagenet": text(PackageResources.moco_v2_imagenet_yaml),
    "simclr-v1-fashion": text(PackageResources.simclr_v1_fashion_yaml),
    "simclr-v1-graytiles": text(PackageResources.simclr_v1_graytiles_yaml),
    "simclr-v1-imagenet": text(PackageResources.simclr_v1_imagenet_yaml),
    "simclr-v2-graytiles": text(PackageResources.simclr_v2_graytiles_yaml),
    "simclr-v2-imagenet": text(PackageResources.simclr_v2_imagenet_yaml),
    "swav-graytiles": text(PackageResources.swav_graytiles_yaml),
    "swav-imagenet": text(PackageResources.swav_imagenet_yaml),
  ]

  private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
}
