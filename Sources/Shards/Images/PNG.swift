import CPNG

/// PNG files, read with libpng.
package enum PNG {
  /// Decodes to raw samples. Transparency is blended onto white.
  static func decode(_ bytes: UnsafeRawBufferPointer, into pixels: inout Pixels) throws(ImageError) {
    let start = bytes.bindMemory(to: UInt8.self).baseAddress
    var info = cpng_info()
    try call { cpng_header(start, bytes.count, &info, $0) }
    let width = Int(info.width)
    let height = Int(info.height)
    guard width * height <= ImageDecoder.largest else { throw .tooLarge(width, height) }
    pixels.reshape(width: width, height: height, channels: Int(info.channels), depth: Int(info.depth))
    try call { message in
      pixels.bytes.withUnsafeMutableBufferPointer { cpng_decode(start, bytes.count, &info, $0.baseAddress, message) }
    }
  }

  private static func call(_ body: (UnsafeMutablePointer<CChar>) -> Int32) throws(ImageError) {
    var message = [CChar](repeating: 0, count: Int(CPNG_MESSAGE))
    if body(&message) != 0 {
      throw ImageError("damaged PNG: " + message.withUnsafeBufferPointer { String(cString: $0.baseAddress!) })
    }
  }
}

extension PNG: ImageFormat {
  package static let name = "PNG"
  package static let suffixes = ["png"]

  package static func recognises(_ start: [UInt8]) -> Bool { start.starts(with: [0x89, 0x50, 0x4E, 0x47]) }

  /// Stores the file as raw upright pixels.
  package static func take(
    _ bytes: [UInt8], _ importer: inout ImageImporter
  ) throws(ImageError) -> ImageImporter.Imported {
    let orientation = try bytes.withUnsafeBufferPointer { (buffer) throws(ImageError) in
      try decode(UnsafeRawBufferPointer(buffer), into: &importer.pixels)
      return Exif.orientation(png: UnsafeRawBufferPointer(buffer))
    }
    importer.turn(Orientation(orientation))
    return try importer.takePixels()
  }

  package static func storedBytes(_ bytes: [UInt8]) -> Int {
    var info = cpng_info()
    var message = [CChar](repeating: 0, count: Int(CPNG_MESSAGE))
    guard cpng_header(bytes, bytes.count, &info, &message) == 0 else { return 0 }
    return Int(info.width) * Int(info.height) * Int(info.channels) * Int(info.depth) / 8
  }
}
