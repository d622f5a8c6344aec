import Foundation

extension ReportImage {
  /// The image as a PNG file, its pixels stored without compression: thumbnails are small, and no library is needed.
  package var png: [UInt8] {
    let shown = channels < 3 ? 1 : 3
    var rows: [UInt8] = []
    rows.reserveCapacity(height * (1 + width * shown))
    for y in 0..<height {
      rows.append(0)  // no filter
      for x in 0..<width {
        let pixel = (y * width + x) * channels
        rows += pixels[pixel..<pixel + shown]
      }
    }
    var file: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
    file += chunk("IHDR", bigEndian(width) + bigEndian(height) + [8, shown == 1 ? 0 : 2, 0, 0, 0])
    file += chunk("IDAT", stored(rows))
    return file + chunk("IEND", [])
  }

  /// For the `src` of an image element.
  package var dataURI: String { "data:image/png;base64," + Data(png).base64EncodedString() }
}

private func bigEndian(_ value: Int) -> [UInt8] { [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) } }

private func chunk(_ name: String, _ data: [UInt8]) -> [UInt8] {
  let body = Array(name.utf8) + data
  return bigEndian(data.count) + body + bigEndian(Int(crc32(body)))
}

/// A zlib stream of stored blocks (RFC 1950, RFC 1951).
private func stored(_ data: [UInt8]) -> [UInt8] {
  var stream: [UInt8] = [0x78, 0x01]
  for start in stride(from: 0, to: data.count, by: 65535) {
    let count = min(65535, data.count - start)
    let low = UInt8(count & 255)
    let high = UInt8(count >> 8)
    stream += [start + count == data.count ? 1 : 0, low, high, ~low, ~high] + data[start..<start + count]
  }
  var a = 1
  var b = 0
  for byte in data {
    a = (a + Int(byte)) % 65521
    b = (b + a) % 65521
  }
  return stream + bigEndian(b << 16 | a)
}

private let crcTable: [UInt32] = (0..<256).map { index in
  (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? 0xEDB8_8320 ^ (value >> 1) : value >> 1 }
}

private func crc32(_ bytes: [UInt8]) -> UInt32 {
  ~bytes.reduce(~0) { crcTable[Int(($0 ^ UInt32($1)) & 255)] ^ ($0 >> 8) }
}
