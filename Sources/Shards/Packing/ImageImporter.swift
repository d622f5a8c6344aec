import Foundation

/// Turns a file into what a shard stores, by really decoding it: what is damaged is found here and not in training.
/// A thread holds one and uses it for all its files.
package struct ImageImporter {
  /// Largest file that is read.
  static let largestFile = 1 << 31

  /// What a shard stores for a file.
  package struct Imported: Sendable {
    package var record: ImageRecord
    package var bytes: [UInt8]
    /// Over its upright pixels, in the channels that were asked for.
    package var sums: ChannelSums
  }

  private var pixels = Pixels()
  private var decoder: ImageDecoder

  /// - Parameter channels: what the data set will deliver; nil keeps each image's own.
  package init(channels: Int?) { decoder = ImageDecoder(channels: channels) }

  /// Reads and decodes a file: JPEG is kept as it came, PNG becomes raw upright pixels.
  package mutating func take(file path: String) throws(ImageError) -> Imported {
    try take(try Self.contents(path))
  }

  /// Decodes the contents of a file.
  package mutating func take(_ bytes: [UInt8]) throws(ImageError) -> Imported {
    // A typed throw does not pass through `withUnsafeBytes`.
    var result: Result<Imported, ImageError> = .failure(ImageError("it is empty"))
    bytes.withUnsafeBytes { raw in
      do throws(ImageError) {
        switch try ImageFormat(raw) {
        case .jpeg: result = .success(try takeJPEG(raw, bytes))
        case .png: result = .success(try takePNG(raw))
        }
      } catch { result = .failure(error) }
    }
    return try result.get()
  }

  /// Takes upright pixels as they are.
  package mutating func take(raw bytes: [UInt8], width: Int, height: Int, channels: Int) throws(ImageError) -> Imported
  {
    pixels.reshape(width: width, height: height, channels: channels, depth: 8)
    precondition(bytes.count == pixels.size, "\(bytes.count) bytes of \(width) x \(height) x \(channels)")
    pixels.bytes.replaceSubrange(0..<bytes.count, with: bytes)
    return try takePixels()
  }

  private mutating func takeJPEG(_ raw: UnsafeRawBufferPointer, _ bytes: [UInt8]) throws(ImageError) -> Imported {
    let header = try JPEG.header(raw)
    let orientation = Exif.orientation(jpeg: raw)
    let swapped = orientation >= 5
    let record = ImageRecord(
      length: bytes.count, width: swapped ? header.height : header.width,
      height: swapped ? header.width : header.height, channels: header.components, encoding: .jpeg,
      orientation: orientation, colour: header.colour)
    _ = try decoder.decode(raw, record, into: &pixels)
    return Imported(record: record, bytes: bytes, sums: ChannelSums(pixels))
  }

  private mutating func takePNG(_ raw: UnsafeRawBufferPointer) throws(ImageError) -> Imported {
    try PNG.decode(raw, into: &pixels)
    let orientation = Exif.orientation(png: raw)
    if orientation != 1 { turn(Orientation(orientation)) }
    return try takePixels()
  }

  /// Turns the decoded pixels upright.
  private mutating func turn(_ turn: Orientation) {
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

  private mutating func takePixels() throws(ImageError) -> Imported {
    let record = ImageRecord(
      length: pixels.size, width: pixels.width, height: pixels.height, channels: pixels.channels, depth: pixels.depth,
      encoding: .raw, colour: pixels.channels == 1 ? 1 : pixels.channels == 3 ? 2 : 0)
    var stored = Array(pixels.bytes[..<pixels.size])
    if pixels.depth == 16, UInt16(1).littleEndian != 1 {
      for i in stride(from: 0, to: stored.count, by: 2) { stored.swapAt(i, i + 1) }
    }
    var sums = ChannelSums(pixels)
    if let channels = decoder.channels, channels != pixels.channels {
      var result: Result<DecodedRegion, ImageError> = .success(DecodedRegion())
      var converted = Pixels()
      stored.withUnsafeBytes { raw in
        do throws(ImageError) { result = .success(try decoder.decode(raw, record, into: &converted)) } catch {
          result = .failure(error)
        }
      }
      _ = try result.get()
      sums = ChannelSums(converted)
    }
    return Imported(record: record, bytes: stored, sums: sums)
  }

  // MARK: Files

  /// The bytes of a plain file; anything else is an error that says what it is.
  static func contents(_ path: String) throws(ImageError) -> [UInt8] {
    var status = stat()
    var link = stat()
    guard stat(path, &status) == 0 else {
      let code = errno
      let broken = code == ENOENT && lstat(path, &link) == 0
      throw ImageError(
        broken ? "it is a broken symbolic link" : "it cannot be read: " + String(cString: strerror(code)))
    }
    switch status.st_mode & S_IFMT {
    case S_IFREG: break
    case S_IFDIR: throw ImageError("it is a folder")
    default: throw ImageError("it is no plain file")
    }
    guard status.st_size <= largestFile else { throw ImageError("it has \(status.st_size) bytes, the most is 2 GiB") }
    let file: RandomAccessFile
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    do throws(ShardError) {
      file = try RandomAccessFile(opening: path)
      try bytes.withUnsafeMutableBufferPointer { (buffer) throws(ShardError) in
        try file.read(into: UnsafeMutableRawBufferPointer(buffer), at: 0)
      }
    } catch { throw ImageError("it cannot be read: " + error.found) }
    return bytes
  }
}
