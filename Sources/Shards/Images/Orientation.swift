/// The transform from a stored image to the upright one, by EXIF orientation.
struct Orientation {
  /// Whether rows and columns are exchanged (5 ... 8).
  let transposed: Bool
  /// Whether the upright x axis is opposite to its stored axis.
  let flipX: Bool
  /// Whether the upright y axis is opposite to its stored axis.
  let flipY: Bool

  init(_ exif: UInt8) {
    transposed = exif >= 5
    flipX = [2, 3, 6, 7].contains(exif)
    flipY = [3, 4, 7, 8].contains(exif)
  }

  var isUpright: Bool { !transposed && !flipX && !flipY }

  /// The stored rectangle of a rectangle of the upright image.
  /// - Parameters width, height: upright size.
  func stored(_ rect: PixelRect, width: Int, height: Int) -> PixelRect {
    let x = flipX ? width - rect.x - rect.width : rect.x
    let y = flipY ? height - rect.y - rect.height : rect.y
    return transposed
      ? PixelRect(x: y, y: x, width: rect.height, height: rect.width)
      : PixelRect(x: x, y: y, width: rect.width, height: rect.height)
  }

  /// Copies stored pixels to their upright places.
  /// - Parameters:
  ///   - source: (height, width, pixel) bytes of the stored image.
  ///   - target: as many bytes.
  ///   - width, height: stored size.
  ///   - pixel: bytes of a pixel.
  func turn(
    _ source: UnsafePointer<UInt8>, to target: UnsafeMutablePointer<UInt8>, width: Int, height: Int, pixel: Int
  ) {
    let uprightWidth = transposed ? height : width
    let uprightHeight = transposed ? width : height
    for y in 0..<uprightHeight {
      let fromY = flipY ? uprightHeight &- 1 &- y : y
      var out = target + y &* uprightWidth &* pixel
      for x in 0..<uprightWidth {
        let fromX = flipX ? uprightWidth &- 1 &- x : x
        let at = transposed ? fromX &* width &+ fromY : fromY &* width &+ fromX
        let from = source + at &* pixel
        for byte in 0..<pixel { out[byte] = from[byte] }
        out += pixel
      }
    }
  }
}
