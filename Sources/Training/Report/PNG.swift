import CPNG
import Foundation

extension ReportImage {
  /// The image as a PNG file: grey for fewer than three channels, else the first three.
  package var png: [UInt8] {
    let shown = channels < 3 ? 1 : 3
    var samples = pixels
    if channels != shown {
      samples = (0..<width * height).flatMap { pixels[$0 * channels..<$0 * channels + shown] }
    }
    let message = UnsafeMutablePointer<CChar>.allocate(capacity: Int(CPNG_MESSAGE))
    defer { message.deallocate() }
    func encode(_ bytes: UnsafeMutablePointer<UInt8>?, _ length: inout Int) {
      let status = cpng_encode(samples, Int32(width), Int32(height), Int32(shown), bytes, &length, message)
      // The sizes were checked when the image was made, so a failure here is a defect.
      precondition(status == 0, "PNG of (\(height), \(width), \(shown)): \(String(cString: message))")
    }
    var length = 0
    encode(nil, &length)
    var file = [UInt8](repeating: 0, count: length)
    encode(&file, &length)
    return Array(file.prefix(length))
  }

  /// For the `src` of an image element.
  package var dataURI: String { "data:image/png;base64," + Data(png).base64EncodedString() }
}
