import Foundation

/// A picture in a report.
package struct ReportImage: Sendable, Equatable {
  package let width: Int
  package let height: Int
  /// 1 is grey, 3 is RGB; of 2 the first is shown, of more the first three.
  package let channels: Int
  /// (height, width, channels), row-major.
  package let pixels: [UInt8]

  package init(width: Int, height: Int, channels: Int, pixels: [UInt8]) {
    precondition(
      width > 0 && height > 0 && channels > 0 && pixels.count == width * height * channels,
      "\(pixels.count) bytes for (\(height), \(width), \(channels)) pixels")
    (self.width, self.height, self.channels, self.pixels) = (width, height, channels, pixels)
  }

  /// Values stretched linearly so that the lowest is black and the highest white; all grey where they are equal. For
  /// normalised views and kernels.
  /// - Parameters:
  ///   - values: (height, width, channels).
  ///   - symmetric: 0 becomes middle grey, for kernels.
  package init(width: Int, height: Int, channels: Int, stretching values: [Float], symmetric: Bool = false) {
    let finite = values.filter(\.isFinite)
    var low = finite.min() ?? 0, high = finite.max() ?? 0
    if symmetric { (low, high) = (-max(abs(low), abs(high)), max(abs(low), abs(high))) }
    let scale = high > low ? 255 / (high - low) : 0
    self.init(
      width: width, height: height, channels: channels,
      pixels: values.map { scale == 0 || !$0.isFinite ? 128 : UInt8((($0 - low) * scale).rounded()) })
  }

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

extension ReportImage: Codable {
  private enum CodingKeys: String, CodingKey { case width, height, channels, pixels }

  package init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    let width = try container.decode(Int.self, forKey: .width), height = try container.decode(Int.self, forKey: .height)
    let channels = try container.decode(Int.self, forKey: .channels)
    let pixels = [UInt8](try container.decode(Data.self, forKey: .pixels))
    guard [width, height, channels].allSatisfy({ (1...65535).contains($0) }), pixels.count == width * height * channels else {
      throw DecodingError.dataCorruptedError(
        forKey: .pixels, in: container, debugDescription: "\(pixels.count) bytes for (\(height), \(width), \(channels)) pixels")
    }
    self.init(width: width, height: height, channels: channels, pixels: pixels)
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(width, forKey: .width)
    try container.encode(height, forKey: .height)
    try container.encode(channels, forKey: .channels)
    try container.encode(Data(pixels), forKey: .pixels)
  }
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
    let (low, high) = (UInt8(count & 255), UInt8(count >> 8))
    stream += [start + count == data.count ? 1 : 0, low, high, ~low, ~high] + data[start..<start + count]
  }
  var (a, b) = (1, 0)
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
