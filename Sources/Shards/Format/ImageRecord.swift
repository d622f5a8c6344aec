/// How a shard stores an image.
package enum Encoding: UInt8, Sendable, CaseIterable {
  /// A JPEG file, unchanged.
  case jpeg = 1
  /// Upright pixels, interleaved, row by row; 16-bit samples are little-endian.
  case raw = 2
}

/// One image's entry in the index of a shard.
package struct ImageRecord: Sendable, Equatable {
  /// First byte, counted from the start of the shard's `bytes`.
  package var offset: Int
  /// Number of bytes.
  package var length: Int
  /// Upright width in pixels, after EXIF orientation.
  package var width: Int
  /// Upright height in pixels, after EXIF orientation.
  package var height: Int
  /// Channels as stored: 4 for CMYK and YCCK.
  package var channels: Int
  /// Bits of a sample: 8 or 16.
  package var depth: Int
  /// How the bytes are encoded.
  package var encoding: Encoding
  /// EXIF orientation of the stored image, 1 ... 8 (1 is upright).
  package var orientation: UInt8
  /// JPEG: 1 grey, 2 RGB, 3 YCbCr, 4 CMYK, 5 YCCK. Raw pixels: 1 grey, 2 RGB, 0 anything else.
  package var colour: UInt8
  /// CRC-32 of the bytes.
  package var checksum: UInt32
  /// Class; -1 for none.
  package var label: Int32
  /// Number of the group that the image belongs to (a patient, a film); -1 for none.
  package var group: Int64

  /// An entry; by default unlabelled and of no group.
  package init(
    offset: Int = 0, length: Int, width: Int, height: Int, channels: Int, depth: Int = 8, encoding: Encoding,
    orientation: UInt8 = 1, colour: UInt8 = 0, checksum: UInt32 = 0, label: Int32 = -1, group: Int64 = -1
  ) {
    self.offset = offset
    self.length = length
    self.width = width
    self.height = height
    self.channels = channels
    self.depth = depth
    self.encoding = encoding
    self.orientation = orientation
    self.colour = colour
    self.checksum = checksum
    self.label = label
    self.group = group
  }
}

/// A rectangle of pixels; the origin is the upper left corner.
package struct PixelRect: Sendable, Equatable {
  /// Upper left corner and size, in pixels.
  package var x: Int, y: Int, width: Int, height: Int

  /// A rectangle from its corner and size.
  package init(x: Int, y: Int, width: Int, height: Int) {
    self.x = x
    self.y = y
    self.width = width
    self.height = height
  }
}

/// Decoded upright pixels. One value is used for many images, so that its memory is reused.
package struct Pixels: Sendable {
  /// Width in pixels.
  package var width = 0
  /// Height in pixels.
  package var height = 0
  /// Channels of a pixel.
  package var channels = 0
  /// Bits of a sample: 8, or 16 in native byte order.
  package var depth = 8
  /// (height, width, channels) samples. May be longer, after a larger image.
  package var bytes: [UInt8] = []

  /// No pixels.
  package init() {}

  /// Bytes of the image.
  package var size: Int { width * height * channels * (depth / 8) }

  mutating func reshape(width: Int, height: Int, channels: Int, depth: Int) {
    self.width = width
    self.height = height
    self.channels = channels
    self.depth = depth
    if bytes.count < size { bytes = [UInt8](repeating: 0, count: size) }
  }
}

/// The part of an image that was decoded, and its scale.
package struct DecodedRegion: Sendable, Equatable {
  /// Upper left corner of the first decoded pixel, in pixels of the upright full-size image. A scaled image may extend
  /// beyond the edge by less than one of its pixels, so a mirrored one can start below 0.
  package var x: Double
  /// Vertical coordinate of the same corner.
  package var y: Double
  /// Full-size pixels per decoded pixel, the same in both directions: 1, or 8/M.
  package var step: Double

  /// By default the whole image at full size.
  package init(x: Double = 0, y: Double = 0, step: Double = 1) {
    self.x = x
    self.y = y
    self.step = step
  }
}
