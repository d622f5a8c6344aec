import Shards

/// A source for tests. It is all that a new kind of source needs, except its row in `PackSources.all`.
struct ToySource: PackSource {
  static let help = "a word that starts with toy:"
  static let options: Set<SourceOption> = [.labels]
  static func recognises(_ path: SourcePath) -> Bool { path.start.starts(with: "toy:".utf8) }

  private(set) var listing = SourceListing(kind: "toy")
  private let image: @Sendable (Int) -> ImageContents

  /// - Parameters:
  ///   - images: keys and labels.
  ///   - image: contents by number.
  init(_ images: [(String, Int)], _ classes: [Name], _ image: @escaping @Sendable (Int) -> ImageContents) {
    self.image = image
    listing.classNames = classes
    listing.images = images.enumerated().map { SourceImage(key: Name($1.0), label: Int32($1.1), number: $0) }
  }

  init(_ path: String, _ options: SourceOptions) throws {
    self.init((0..<10).map { ("toy/\($0)", $0 % 2) }, ["odd", "even"]) { number in
      .pixels([UInt8](repeating: UInt8(number), count: 12), width: 2, height: 2, channels: 3)
    }
  }

  func contents(of image: SourceImage) throws(ImageError) -> ImageContents { self.image(image.number) }
}
