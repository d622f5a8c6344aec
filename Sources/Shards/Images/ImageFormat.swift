/// A format of image files that can be packed. To add one, write a file and add a row to `ImageFormats.all`.
package protocol ImageFormat: Sendable {
  /// Name in messages, such as "JPEG".
  static var name: String { get }
  /// Suffixes of such files' names, in lower case. Only a hint; the bytes decide.
  static var suffixes: [String] { get }
  /// Whether a file has this format.
  /// - Parameter start: its first bytes, or all of them.
  static func recognises(_ start: [UInt8]) -> Bool
  /// Decodes a file, which finds damage, and returns what a shard stores for it.
  static func take(_ bytes: [UInt8], _ importer: inout ImageImporter) throws(ImageError) -> ImageImporter.Imported
  /// Number of bytes that a shard stores for a file, from its header; 0 for a damaged file.
  static func storedBytes(_ bytes: [UInt8]) -> Int
}

/// The table of image formats.
package enum ImageFormats {
  /// All formats that can be packed.
  package static let all: [any ImageFormat.Type] = [JPEG.self, PNG.self]

  /// A format that is recognised but cannot be read.
  private struct Other {
    let name: String, suffixes: [String]
    let recognises: @Sendable ([UInt8]) -> Bool

    init(_ name: String, _ suffixes: [String], _ recognises: @escaping @Sendable ([UInt8]) -> Bool) {
      self.name = name
      self.suffixes = suffixes
      self.recognises = recognises
    }
  }

  private static let others = [
    Other("GIF", ["gif"]) { $0.starts(with: "GIF8".utf8) },
    Other("BMP", ["bmp"]) { $0.starts(with: "BM".utf8) },
    Other("WebP", ["webp"]) { $0.starts(with: "RIFF".utf8) && $0.dropFirst(8).starts(with: "WEBP".utf8) },
    Other("TIFF", ["tif", "tiff"]) {
      $0.starts(with: [0x49, 0x49, 0x2A, 0]) || $0.starts(with: [0x4D, 0x4D, 0, 0x2A])
    },
    Other("HEIC or AVIF", ["heic", "avif"]) { $0.dropFirst(4).starts(with: "ftyp".utf8) },
  ]

  private static let suffixes = all.flatMap { $0.suffixes } + others.flatMap(\.suffixes)

  // MARK: By bytes

  /// The format of a file.
  /// - Throws: an error that says what the file is, if it has none of the formats.
  static func of(_ bytes: [UInt8]) throws(ImageError) -> any ImageFormat.Type {
    if let format = all.first(where: { $0.recognises(bytes) }) { return format }
    if bytes.isEmpty { throw ImageError("it is empty") }
    if let other = others.first(where: { $0.recognises(bytes) }) {
      let read = all.map { $0.name }.joined(separator: " and ")
      throw ImageError("it is \(other.name); apus reads \(read), so convert it first")
    }
    if bytes.starts(with: "version https://git-lfs".utf8) {
      throw ImageError("it is a Git LFS pointer; fetch the file with `git lfs pull`")
    }
    let start = bytes.prefix(512)
    if start.allSatisfy({ $0 == 0 }) { throw ImageError("it holds zeros, no image") }
    if start.allSatisfy({ $0 >= 0x20 && $0 < 0x7F || (9...13).contains($0) }) {
      let isMarkup = start.first { $0 > 0x20 } == UInt8(ascii: "<")
      throw ImageError(isMarkup ? "it is HTML or XML, no image" : "it is text, no image")
    }
    throw ImageError("it is no " + all.map { $0.name }.joined(separator: " and no "))
  }

  /// Name of an image file's format, whether it can be read or not; nil for other files.
  static func name(_ start: [UInt8]) -> String? {
    all.first { $0.recognises(start) }?.name ?? others.first { $0.recognises(start) }?.name
  }

  // MARK: By name

  /// What a file's name suggests.
  enum NameSays {
    case image
    /// An image's suffix followed by more: `a.jpg_large`, `b.jpg.1`, `c.jpg?w=200`.
    case perhaps
    case other
  }

  /// What a file's name suggests. A name without a suffix counts as an image's.
  static func says(_ name: Name) -> NameSays {
    let parts = String(decoding: name.last.bytes, as: UTF8.self).lowercased()
      .split(separator: ".", omittingEmptySubsequences: false).dropFirst()
    guard let last = parts.last else { return .image }
    if suffixes.contains(String(last)) { return .image }
    let isNear = parts.contains { part in
      suffixes.contains { suffix in
        guard part.hasPrefix(suffix) else { return false }
        return part.dropFirst(suffix.count).first.map { !$0.isLetter && !$0.isNumber } ?? true
      }
    }
    return isNear ? .perhaps : .other
  }
}
