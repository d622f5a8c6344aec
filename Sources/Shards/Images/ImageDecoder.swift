import CJPEG
import CPNG

/// Decodes the images of a data set to upright pixels with a fixed number of channels. It reuses its scratch memory, so
/// each thread should have one for all its images.
package struct ImageDecoder {
  /// Largest image that is accepted, in pixels.
  package static let largest = 1 << 28

  /// Channels of decoded images; nil keeps those of each image (CMYK becomes RGB).
  package let channels: Int?
  private var scratch: [UInt8] = []

  /// - Parameter channels: usually `DataSet.channels`. Grey and RGB are converted to each other; other numbers of
  ///   channels must match the stored image.
  package init(channels: Int?) { self.channels = channels }

  /// Decodes one image.
  /// - Parameters:
  ///   - bytes: the image's bytes in the shard, `record.length` of them.
  ///   - record: its entry in the index, which the bytes are checked against.
  ///   - region: the part that is needed, in upright full-size pixels; it must lie inside the image. Nil for all of it.
  ///   - target: side in pixels that the region will be resized to. With `scaled`, the decoded region has at least
  ///     twice as many pixels in both directions (or its full size).
  ///   - scaled: lets libjpeg decode at M/8 and skip rows and columns outside the region. Pixels at the cut edges can
  ///     differ in the last bits from those of the whole image. Without it the whole image is decoded.
  ///   - pixels: gets the upright image.
  /// - Returns: the part of the image that was decoded. It covers the region.
  /// - Throws: if the bytes are damaged or do not match the record.
  package mutating func decode(
    _ bytes: UnsafeRawBufferPointer, _ record: ImageRecord, region: PixelRect? = nil, target: Int? = nil,
    scaled: Bool = false, into pixels: inout Pixels
  ) throws(ImageError) -> DecodedRegion {
    if let region {
      precondition(
        region.x >= 0 && region.y >= 0 && region.width > 0 && region.height > 0
          && region.x + region.width <= record.width && region.y + region.height <= record.height,
        "region \(region) of an image of \(record.width) x \(record.height)")
    }
    switch record.encoding {
    case .raw:
      try decodeRaw(bytes, record, into: &pixels)
      return DecodedRegion()
    case .jpeg:
      let wanted = scaled ? region : nil
      return try decodeJPEG(
        bytes, record, wanted, scale: scaled ? Self.scale(record, region, target) : 8, into: &pixels)
    }
  }

  /// Smallest M of libjpeg's M/8 at which the region has at least twice the target's pixels in both directions; 8 if
  /// there is none.
  static func scale(_ record: ImageRecord, _ region: PixelRect?, _ target: Int?) -> Int {
    guard let target else { return 8 }
    let side = min(region?.width ?? record.width, region?.height ?? record.height)
    return (1...8).first { side * $0 >= 16 * target } ?? 8
  }

  // MARK: JPEG

  private mutating func decodeJPEG(
    _ bytes: UnsafeRawBufferPointer, _ record: ImageRecord, _ region: PixelRect?, scale: Int, into pixels: inout Pixels
  ) throws(ImageError) -> DecodedRegion {
    let turn = Orientation(record.orientation)
    let storedWidth = turn.transposed ? record.height : record.width
    let storedHeight = turn.transposed ? record.width : record.height
    let header = try JPEG.header(bytes)
    guard header.width == storedWidth, header.height == storedHeight else {
      throw ImageError(
        "its JPEG is \(header.width) x \(header.height), its index says \(storedWidth) x \(storedHeight)")
    }
    let channels = self.channels ?? (header.components == 1 ? 1 : 3)
    guard channels == 1 || channels == 3 else { throw ImageError("a JPEG has no \(channels) channels") }

    let full = PixelRect(x: 0, y: 0, width: record.width, height: record.height)
    let stored = turn.stored(region ?? full, width: record.width, height: record.height)
    var window = Self.window(stored, scale, storedWidth, storedHeight)
    // jpeg_crop_scanline widens the window to whole blocks, at most to the scaled image's full width.
    let room = Int(cjpeg_scaled(Int32(storedWidth), Int32(scale))) * Int(window.height) * channels
    pixels.reshape(
      width: room / Int(window.height) / channels, height: Int(window.height), channels: channels, depth: 8)
    if turn.isUpright {
      try JPEG.decode(bytes, channels, scale, &window, into: &pixels.bytes)
      pixels.reshape(width: Int(window.width), height: Int(window.height), channels: channels, depth: 8)
    } else {
      if scratch.count < room { scratch = [UInt8](repeating: 0, count: room) }
      try JPEG.decode(bytes, channels, scale, &window, into: &scratch)
      let width = Int(window.width)
      let height = Int(window.height)
      pixels.reshape(
        width: turn.transposed ? height : width, height: turn.transposed ? width : height, channels: channels, depth: 8)
      scratch.withUnsafeBufferPointer { source in
        pixels.bytes.withUnsafeMutableBufferPointer { target in
          turn.turn(source.baseAddress!, to: target.baseAddress!, width: width, height: height, pixel: channels)
        }
      }
    }
    return Self.held(window, turn, scale, width: record.width, height: record.height)
  }

  /// The scaled pixels that cover a stored rectangle, with one more on each side for libjpeg's chroma interpolation.
  private static func window(_ rect: PixelRect, _ scale: Int, _ width: Int, _ height: Int) -> cjpeg_window {
    let all = (Int(cjpeg_scaled(Int32(width), Int32(scale))), Int(cjpeg_scaled(Int32(height), Int32(scale))))
    let left = max(0, rect.x * scale / 8 - 1)
    let top = max(0, rect.y * scale / 8 - 1)
    let right = min(all.0, ((rect.x + rect.width) * scale + 7) / 8 + 1)
    let bottom = min(all.1, ((rect.y + rect.height) * scale + 7) / 8 + 1)
    return cjpeg_window(x: Int32(left), y: Int32(top), width: Int32(right - left), height: Int32(bottom - top))
  }

  private static func held(
    _ window: cjpeg_window, _ turn: Orientation, _ scale: Int, width: Int, height: Int
  ) -> DecodedRegion {
    let step = 8 / Double(scale)
    var x = Double(window.x)
    var y = Double(window.y)
    var w = Double(window.width)
    var h = Double(window.height)
    if turn.transposed { (x, y, w, h) = (y, x, h, w) }
    return DecodedRegion(
      x: turn.flipX ? Double(width) - (x + w) * step : x * step,
      y: turn.flipY ? Double(height) - (y + h) * step : y * step, step: step)
  }

  // MARK: Raw

  private func decodeRaw(
    _ bytes: UnsafeRawBufferPointer, _ record: ImageRecord, into pixels: inout Pixels
  ) throws(ImageError) {
    let wide = record.depth / 8
    let count = record.width * record.height
    let out = channels ?? record.channels
    guard bytes.count == count * record.channels * wide else {
      throw ImageError("it has \(bytes.count) bytes, its index says \(count * record.channels * wide)")
    }
    pixels.reshape(width: record.width, height: record.height, channels: out, depth: record.depth)
    pixels.bytes.withUnsafeMutableBytes { target in
      switch (record.channels, out) {
      case _ where record.channels == out: target.copyMemory(from: bytes)
      case (1, 3) where wide == 1: Self.repeatGrey(bytes, target, count, UInt8.self)
      case (1, 3): Self.repeatGrey(bytes, target, count, UInt16.self)
      case (3, 1) where wide == 1: Self.weighGrey(bytes, target, count, UInt8.self)
      case (3, 1): Self.weighGrey(bytes, target, count, UInt16.self)
      default: break
      }
    }
    guard record.channels == out || [[1, 3], [3, 1]].contains([record.channels, out]) else {
      throw ImageError("it has \(record.channels) channels, its data set \(out)")
    }
  }

  private static func repeatGrey<T: FixedWidthInteger>(
    _ from: UnsafeRawBufferPointer, _ to: UnsafeMutableRawBufferPointer, _ count: Int, _: T.Type
  ) {
    let size = MemoryLayout<T>.size
    for i in 0..<count {
      let grey = from.loadUnaligned(fromByteOffset: i * size, as: T.self)
      for c in 0..<3 { to.storeBytes(of: grey, toByteOffset: (3 * i + c) * size, as: T.self) }
    }
  }

  /// Converts RGB to grey: luma of ITU-R BT.601, as in JPEG.
  private static func weighGrey<T: FixedWidthInteger & UnsignedInteger>(
    _ from: UnsafeRawBufferPointer, _ to: UnsafeMutableRawBufferPointer, _ count: Int, _: T.Type
  ) {
    let size = MemoryLayout<T>.size
    func sample(_ i: Int) -> UInt64 { UInt64(from.loadUnaligned(fromByteOffset: i * size, as: T.self)) }
    for i in 0..<count {
      let luma = (sample(3 * i) * 19595 + sample(3 * i + 1) * 38470 + sample(3 * i + 2) * 7471 + 0x8000) >> 16
      to.storeBytes(of: T(truncatingIfNeeded: luma), toByteOffset: i * size, as: T.self)
    }
  }
}
