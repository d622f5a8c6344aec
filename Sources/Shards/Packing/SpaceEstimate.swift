import CPNG
import Foundation

/// Says before anything is written that the disk will not do.
enum SpaceEstimate {
  /// Files looked at; the rest is taken to be like them.
  private static let sampled = 500
  /// Index and key of an image.
  private static let perImage = 256

  static func check(_ images: [PackSource.Image], _ idx: IDXImages?, at path: String) throws(ShardError) {
    guard let free = Staging.freeSpace(path) else { return }
    let needed = bytes(images) + (idx.map { $0.width * $0.height * $0.channels * images.count } ?? 0)
    if needed > free {
      throw ShardError(
        path, "pack to", "about \(byteText(needed)) are needed, \(byteText(free)) are free; choose another place")
    }
  }

  private static func bytes(_ images: [PackSource.Image]) -> Int {
    let sample = images.prefix(sampled)  // in random order already
    if sample.isEmpty { return 0 }
    let total = sample.reduce(0) { $0 + stored($1) + perImage }
    return total / sample.count * images.count
  }

  private static func stored(_ image: PackSource.Image) -> Int {
    guard case .file(let path) = image.location else { return 0 }
    var status = stat()
    guard stat(path, &status) == 0 else { return 0 }
    guard path.lowercased().hasSuffix(".png"), let bytes = try? ImageImporter.contents(path) else {
      return Int(status.st_size)
    }
    var info = cpng_info()
    var message = [CChar](repeating: 0, count: Int(CPNG_MESSAGE))
    guard cpng_header(bytes, bytes.count, &info, &message) == 0 else { return 0 }
    return Int(info.width) * Int(info.height) * Int(info.channels) * Int(info.depth) / 8
  }
}
