/// What a file is, by its first bytes: names lie.
enum ImageFormat {
  case jpeg
  case png

  /// Recognises a format, or throws what the file is instead.
  init(_ bytes: UnsafeRawBufferPointer) throws(ImageError) {
    func starts(_ prefix: [UInt8], at offset: Int = 0) -> Bool {
      bytes.count >= offset + prefix.count && bytes[offset..<offset + prefix.count].elementsEqual(prefix)
    }
    func starts(text: String, at offset: Int = 0) -> Bool { starts(Array(text.utf8), at: offset) }

    if bytes.isEmpty { throw ImageError("it is empty") }
    if starts([0xFF, 0xD8]) {
      self = .jpeg
      return
    }
    if starts([0x89, 0x50, 0x4E, 0x47]) {
      self = .png
      return
    }
    let others: [(Bool, String)] = [
      (starts(text: "GIF8"), "GIF"), (starts(text: "BM"), "BMP"),
      (starts(text: "RIFF") && starts(text: "WEBP", at: 8), "WebP"),
      (starts([0x49, 0x49, 0x2A, 0]) || starts([0x4D, 0x4D, 0, 0x2A]), "TIFF"),
      (starts(text: "ftyp", at: 4), "HEIC or AVIF"),
    ]
    if let (_, name) = others.first(where: \.0) {
      throw ImageError("it is \(name); apus reads JPEG and PNG, so convert it first")
    }
    if starts(text: "version https://git-lfs") {
      throw ImageError("it is a Git LFS pointer; fetch the file with `git lfs pull`")
    }
    let start = bytes.prefix(512)
    if start.allSatisfy({ $0 == 0 }) { throw ImageError("it holds zeros, no image") }
    if start.allSatisfy({ $0 >= 0x20 && $0 < 0x7F || (9...13).contains($0) }) {
      throw ImageError(start.first { $0 > 0x20 } == 0x3C ? "it is HTML or XML, no image" : "it is text, no image")
    }
    throw ImageError("it is no JPEG and no PNG")
  }
}
