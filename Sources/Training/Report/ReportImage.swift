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
    self.width = width
    self.height = height
    self.channels = channels
    self.pixels = pixels
  }

  /// Values stretched linearly so that the lowest is black and the highest white; all grey where they are equal. For
  /// normalised views and kernels.
  /// - Parameters:
  ///   - values: (height, width, channels).
  ///   - symmetric: 0 becomes middle grey, for kernels.
  package init(width: Int, height: Int, channels: Int, stretching values: [Float], symmetric: Bool = false) {
    let finite = values.filter(\.isFinite)
    var low = finite.min() ?? 0
    var high = finite.max() ?? 0
    if symmetric { (low, high) = (-max(abs(low), abs(high)), max(abs(low), abs(high))) }
    let scale = high > low ? 255 / (high - low) : 0
    self.init(
      width: width, height: height, channels: channels,
      pixels: values.map { scale == 0 || !$0.isFinite ? 128 : UInt8((($0 - low) * scale).rounded()) })
  }

  /// The image no larger than `side` pixels in either direction, by averages over squares; itself where it already is.
  package func reduced(to side: Int) -> ReportImage {
    precondition(side > 0, "a picture of \(side) pixels")
    let factor = (max(width, height) + side - 1) / side
    if factor == 1 { return self }
    let w = (width + factor - 1) / factor
    let h = (height + factor - 1) / factor
    var result = [UInt8](repeating: 0, count: w * h * channels)
    for y in 0..<h {
      for x in 0..<w {
        let rows = y * factor..<min(height, (y + 1) * factor)
        let columns = x * factor..<min(width, (x + 1) * factor)
        for c in 0..<channels {
          var sum = 0
          for row in rows { for column in columns { sum += Int(pixels[(row * width + column) * channels + c]) } }
          let count = rows.count * columns.count
          result[(y * w + x) * channels + c] = UInt8((sum + count / 2) / count)
        }
      }
    }
    return ReportImage(width: w, height: h, channels: channels, pixels: result)
  }
}

extension ReportImage: Codable {
  private enum CodingKeys: String, CodingKey { case width, height, channels, pixels }

  package init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    let width = try container.decode(Int.self, forKey: .width)
    let height = try container.decode(Int.self, forKey: .height)
    let channels = try container.decode(Int.self, forKey: .channels)
    let pixels = [UInt8](try container.decode(Data.self, forKey: .pixels))
    guard [width, height, channels].allSatisfy({ (1...65535).contains($0) }), pixels.count == width * height * channels
    else {
      throw DecodingError.dataCorruptedError(
        forKey: .pixels, in: container,
        debugDescription: "\(pixels.count) bytes for (\(height), \(width), \(channels)) pixels")
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
