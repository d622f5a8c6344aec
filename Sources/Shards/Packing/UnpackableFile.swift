/// Files that people give to `apus pack` and that are no source: what each is, and what to do.
enum UnpackableFile {
  private struct Kind {
    let start: [UInt8], offset: Int, words: String

    init(_ start: [UInt8], at offset: Int = 0, _ words: String) {
      self.start = start
      self.offset = offset
      self.words = words
    }
  }

  private static let kinds = [
    Kind(Array("ustar".utf8), at: 257, "it is a tar archive; unpack it (`tar -xf`) and pack the folder"),
    Kind([0x50, 0x4B, 3, 4], "it is a zip archive; unpack it (`unzip`) and pack the folder"),
    Kind([0x1F, 0x8B], "it is compressed by gzip; unpack it (`tar -xzf` or `gunzip`) and pack what comes out"),
    Kind([0xFD, 0x37, 0x7A, 0x58, 0x5A], "it is compressed by xz; unpack it (`tar -xJf`) and pack what comes out"),
    Kind(Array("BZh".utf8), "it is compressed by bzip2; unpack it (`tar -xjf`) and pack what comes out"),
    Kind([0x28, 0xB5, 0x2F, 0xFD], "it is compressed by zstd; unpack it and pack what comes out"),
    Kind([0x37, 0x7A, 0xBC, 0xAF], "it is a 7z archive; unpack it and pack the folder"),
    Kind(Array("Rar!".utf8), "it is a rar archive; unpack it and pack the folder"),
    Kind([0x89, 0x48, 0x44, 0x46], "it is an HDF5 file; a shard is packed already, others must become image files"),
    Kind(Array("PAR1".utf8), "it is a Parquet file; write its images to files and pack the folder"),
    Kind([0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59], "it is a NumPy array; write its images to files and pack the folder"),
  ]

  /// Whether a file is one of these.
  static func isKnown(_ start: [UInt8]) -> Bool { kind(start) != nil }

  private static func kind(_ start: [UInt8]) -> Kind? {
    kinds.first { start.dropFirst($0.offset).starts(with: $0.start) }
  }

  /// Why a file that no source recognises cannot be packed.
  /// - Parameter start: its first bytes.
  static func reason(_ start: [UInt8]) -> String {
    if let kind = kind(start) { return kind.words }
    if let image = ImageFormats.name(start) {
      return "it is one \(image) image; name its folder, or a list of images"
    }
    return "it is no folder of images, no list (UTF-8 text) and no IDX file"
  }
}
