import Foundation

/// Turns what a source gives into what a shard stores, by really decoding it: damage is found here and not in training.
/// A thread holds one and uses it for all its images.
package struct ImageImporter {
  /// What a shard stores for an image.
  package struct Imported: Sendable {
    package var record: ImageRecord
    package var bytes: [UInt8]
    /// Over its upright pixels, in the channels that were asked for.
    package var sums: ChannelSums
  }

  /// What a format decodes into.
  var pixels = Pixels()
  private var decoder: ImageDecoder

  /// - Parameter channels: what the data set will deliver; nil keeps each image's own.
  package init(channels: Int?) { decoder = ImageDecoder(channels: channels) }

  /// Takes an image of a source.
  package mutating func take(_ contents: ImageContents) throws(ImageError) -> Imported {
    switch contents {
    case .file(let bytes): try take(bytes)
    case .pixels(let bytes, let width, let height, let channels):
      try take(raw: bytes, width: width, height: height, channels: channels)
    }
  }

  /// Reads and decodes a file.
  package mutating func take(file path: String) throws(ImageError) -> Imported {
    try take(try ImageFile.contents(Name(path)))
  }

  /// Decodes the contents of a file, whatever its format.
  package mutating func take(_ bytes: [UInt8]) throws(ImageError) -> Imported {
    try ImageFormats.of(bytes).take(bytes, &self)
  }

  private mutating func take(
    raw bytes: [UInt8], width: Int, height: Int, channels: Int
  ) throws(ImageError) -> Imported {
    pixels.reshape(width: width, height: height, channels: channels, depth: 8)
    precondition(bytes.count == pixels.size, "\(bytes.count) bytes of \(width) x \(height) x \(channels)")
    pixels.bytes.replaceSubrange(0..<bytes.count, with: bytes)
    return try takePixels()
  }

  // MARK: For formats

  /// Decodes a file that is stored as it came, and describes it.
  mutating func keep(_ bytes: [UInt8], _ record: ImageRecord) throws(ImageError) -> Imported {
    try bytes.withUnsafeBufferPointer { (buffer) throws(ImageError) in
      _ = try decoder.decode(UnsafeRawBufferPointer(buffer), record, into: &pixels)
    }
    return Imported(record: record, bytes: bytes, sums: ChannelSums(pixels))
  }

  /// Turns `pixels` upright.
  mutating func turn(_ turn: Orientation) {
    if turn.isUpright { return }
    let width = pixels.width
    let height = pixels.height
    let stored = pixels.bytes
    pixels.reshape(
      width: turn.transposed ? height : width, height: turn.transposed ? width : height, channels: pixels.channels,
      depth: pixels.depth)
    let pixel = pixels.channels * pixels.depth / 8
    stored.withUnsafeBufferPointer { source in
      pixels.bytes.withUnsafeMutableBufferPointer { target in
        turn.turn(source.baseAddress!, to: target.baseAddress!, width: width, height: height, pixel: pixel)
      }
    }
  }

  /// Stores `pixels` raw.
  mutating func takePixels() throws(ImageError) -> Imported {
    let colours: [Int: UInt8] = [1: 1, 3: 2]
    let record = ImageRecord(
      length: pixels.size, width: pixels.width, height: pixels.height, channels: pixels.channels, depth: pixels.depth,
      encoding: .raw, colour: colours[pixels.channels] ?? 0)
    var stored = Array(pixels.bytes[..<pixels.size])
    if pixels.depth == 16, UInt16(1).littleEndian != 1 {
      for i in stride(from: 0, to: stored.count, by: 2) { stored.swapAt(i, i + 1) }
    }
    guard let channels = decoder.channels, channels != pixels.channels else {
      return Imported(record: record, bytes: stored, sums: ChannelSums(pixels))
    }
    var converted = Pixels()
    try stored.withUnsafeBufferPointer { (buffer) throws(ImageError) in
      _ = try decoder.decode(UnsafeRawBufferPointer(buffer), record, into: &converted)
    }
    return Imported(record: record, bytes: stored, sums: ChannelSums(converted))
  }
}
