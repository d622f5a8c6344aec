import Files
import Foundation

/// Finds out before anything is written whether the disk has room.
enum SpaceEstimate {
  /// Images that are looked at; the others are taken to be like them.
  private static let sampled = 500
  /// Bytes of an image in the index, its key among them.
  private static let perImage = 256

  /// - Parameters:
  ///   - images: in random order.
  ///   - path: where the data set will stand.
  /// - Throws: `FileError` where there is too little room, `Interrupted` after a signal.
  static func check(_ images: [SourceImage], of source: any PackSource, at path: String) throws {
    let sample = images.prefix(sampled)
    guard !sample.isEmpty, let free = Staging.freeSpace(path) else { return }
    var total = 0
    for image in sample {
      try Interruption.check()
      total += perImage
      // What cannot be read takes no room.
      if let contents = try? source.contents(of: image) { total += storedBytes(contents) }
    }
    try check(total / sample.count * images.count, free, path)
  }

  /// - Parameter needed: bytes.
  static func check(_ needed: Int, _ free: Int, _ path: String) throws(FileError) {
    if needed <= free { return }
    throw FileError(
      path, "write to", "about \(byteText(needed)) are needed, \(byteText(free)) are free; choose another place")
  }

  private static func storedBytes(_ contents: ImageContents) -> Int {
    switch contents {
    case .file(let bytes): (try? ImageFormats.of(bytes))?.storedBytes(bytes) ?? 0
    case .pixels(let bytes, _, _, _): bytes.count
    }
  }
}
