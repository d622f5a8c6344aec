import CPNG

/// libpng behind typed errors.
enum PNG {
  /// Decodes to raw samples; transparency is blended on white.
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
