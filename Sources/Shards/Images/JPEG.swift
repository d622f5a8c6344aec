import CJPEG

/// JPEG files, read with libjpeg.
package enum JPEG {
  struct Header {
    /// Stored size, before orientation.
    var width: Int, height: Int
    /// 1, 3 or 4.
    var components: Int
    /// As `ImageRecord.colour`.
    var colour: UInt8
  }

  /// Reads the header and refuses images that are too large.
  static func header(_ bytes: UnsafeRawBufferPointer) throws(ImageError) -> Header {
    var info = cjpeg_info()
    try call { cjpeg_header(bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count, &info, $0) }
    let width = Int(info.width)
    let height = Int(info.height)
    guard width * height <= ImageDecoder.largest else { throw .tooLarge(width, height) }
    return Header(width: width, height: height, components: Int(info.components), colour: UInt8(info.colour))
  }

  /// Decodes a window of the scaled image. `samples` must have room for the window's rows at the scaled image's full
  /// width.
  static func decode(
    _ bytes: UnsafeRawBufferPointer, _ channels: Int, _ scale: Int, _ window: inout cjpeg_window,
    into samples: inout [UInt8]
  ) throws(ImageError) {
    try call { message in
      samples.withUnsafeMutableBufferPointer { out in
        cjpeg_decode(
          bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count, Int32(channels), Int32(scale), &window,
          out.baseAddress, out.count, message)
      }
    }
  }

  private static func call(_ body: (UnsafeMutablePointer<CChar>) -> Int32) throws(ImageError) {
    var message = [CChar](repeating: 0, count: Int(CJPEG_MESSAGE))
    if body(&message) != 0 {
      throw ImageError("damaged JPEG: " + message.withUnsafeBufferPointer { String(cString: $0.baseAddress!) })
    }
  }
}

extension JPEG: ImageFormat {
  package static let name = "JPEG"
  package static let suffixes = ["jpg", "jpeg", "jpe", "jfif", "mpo"]

  package static func recognises(_ start: [UInt8]) -> Bool { start.starts(with: [0xFF, 0xD8]) }

  /// Stores the file unchanged.
  package static func take(
    _ bytes: [UInt8], _ importer: inout ImageImporter
  ) throws(ImageError) -> ImageImporter.Imported {
    let record = try bytes.withUnsafeBufferPointer { (buffer) throws(ImageError) in
      let raw = UnsafeRawBufferPointer(buffer)
      let header = try header(raw)
      let orientation = Exif.orientation(jpeg: raw)
      let isTransposed = Orientation(orientation).transposed
      return ImageRecord(
        length: bytes.count, width: isTransposed ? header.height : header.width,
        height: isTransposed ? header.width : header.height, channels: header.components, encoding: .jpeg,
        orientation: orientation, colour: header.colour)
    }
    return try importer.keep(bytes, record)
  }

  package static func storedBytes(_ bytes: [UInt8]) -> Int { bytes.count }
}

extension ImageError {
  static func tooLarge(_ width: Int, _ height: Int) -> ImageError {
    ImageError("it has \(width) x \(height) pixels, the most is \(ImageDecoder.largest)")
  }
}
