/// Reads the EXIF orientation.
enum Exif {
  /// Orientation in a JPEG file's first EXIF block, 1 ... 8; 1 if there is none or it is invalid.
  static func orientation(jpeg bytes: UnsafeRawBufferPointer) -> UInt8 {
    var at = 2  // after the start marker
    while at + 4 <= bytes.count, bytes[at] == 0xFF {
      let marker = bytes[at + 1]
      if marker == 0xFF {
        at += 1
        continue
      }
      if marker == 0xDA || marker == 0xD9 { break }
      let length = Int(bytes[at + 2]) << 8 | Int(bytes[at + 3])
      let start = at + 4
      let end = at + 2 + length
      guard length >= 2, end <= bytes.count else { break }
      if marker == 0xE1, end - start > 6, bytes[start..<start + 6].elementsEqual([0x45, 0x78, 0x69, 0x66, 0, 0]) {
        return orientation(tiff: UnsafeRawBufferPointer(rebasing: bytes[start + 6..<end]))
      }
      at = end
    }
    return 1
  }

  /// Orientation in a PNG file's EXIF chunk, which may come before or after the pixels.
  static func orientation(png bytes: UnsafeRawBufferPointer) -> UInt8 {
    var at = 8  // after the signature
    while at + 12 <= bytes.count {
      let length = (0..<4).reduce(0) { $0 << 8 | Int(bytes[at + $1]) }
      let start = at + 8
      guard length <= bytes.count - start else { break }
      if bytes[at + 4..<start].elementsEqual([0x65, 0x58, 0x49, 0x66]) {
        return orientation(tiff: UnsafeRawBufferPointer(rebasing: bytes[start..<start + length]))
      }
      at = start + length + 4
    }
    return 1
  }

  /// Orientation in a TIFF header and its first directory.
  static func orientation(tiff bytes: UnsafeRawBufferPointer) -> UInt8 {
    guard bytes.count >= 8 else { return 1 }
    let little = bytes[0] == 0x49
    guard bytes[0] == bytes[1], little || bytes[0] == 0x4D else { return 1 }
    func number(_ at: Int, _ count: Int) -> Int {
      (0..<count).reduce(0) { $0 | Int(bytes[at + $1]) << (8 * (little ? $1 : count - 1 - $1)) }
    }
    let directory = number(4, 4)
    guard number(2, 2) == 42, directory + 2 <= bytes.count else { return 1 }
    for entry in 0..<number(directory, 2) {
      let at = directory + 2 + entry * 12
      guard at + 12 <= bytes.count else { break }
      let isShort = number(at + 2, 2) == 3
      if number(at, 2) == 0x0112, isShort, (1...8).contains(number(at + 8, 2)) { return UInt8(number(at + 8, 2)) }
    }
    return 1
  }
}
