import Foundation
import Randomness

/// The part of an image that a view shows, in upright pixels, and how it fills the view: output pixel (i, j) of
/// size × size is centred at (x + (j + ½)·width/size, y + (i + ½)·height/size).
package struct Frame: Equatable, Sendable {
  package var x: Double, y: Double, width: Double, height: Double
  /// The pixels that may be used: those of a crop, but the whole image where the image is resized before it is cut.
  package var clip: PixelRect

  package init(x: Double, y: Double, width: Double, height: Double, clip: PixelRect) {
    self.x = x
    self.y = y
    self.width = width
    self.height = height
    self.clip = clip
  }

  /// A crop of whole pixels.
  package init(_ box: PixelRect) {
    self.init(
      x: Double(box.x), y: Double(box.y), width: Double(box.width), height: Double(box.height), clip: box)
  }
}

/// How a random crop is sampled. All draw an area and a ratio; they differ in what they do where these do not fit.
package enum CropSampling: String, Codable, CaseIterable, Sendable {
  /// torchvision (MoCo, most others): log-uniform ratio, 10 tries, then the largest central crop of an allowed ratio.
  case retry
  /// BYOL: log-uniform ratio, one draw, each side cut to the image.
  case clamp
  /// TensorFlow's `sample_distorted_bounding_box` as SimCLR calls it: uniform ratio, uniform height among those that
  /// fit, at least 0.1 of the image, 100 tries, then the whole image.
  ///
  /// Two habits of TensorFlow's are left out. It draws heights from the lower bound of `scale` on, and where the area
  /// is below 0.1 draws another ratio, so ratios that fit more heights come up a little more often; here heights begin
  /// at 0.1. And its place never reaches the right or the bottom edge, one pixel of each that is nearly always at hand.
  /// Both tell in strips such as 1000 × 120 alone.
  case height
}

/// Random resized crop.
package struct Crop: Framing, Options {
  package static let name = "crop"
  /// Area, as a share of the image's; width over height.
  package var scale = Bounds(0.08, 1), ratio = Bounds(0.75, 4.0 / 3)
  package var interpolation = Interpolation.bilinear
  package var sampling = CropSampling.retry

  /// An option that is not given has its default.
  package init(
    scale: Bounds = Crop().scale, ratio: Bounds = Crop().ratio, interpolation: Interpolation = Crop().interpolation,
    sampling: CropSampling = Crop().sampling
  ) {
    self.scale = scale
    self.ratio = ratio
    self.interpolation = interpolation
    self.sampling = sampling
  }

  package init() {}

  package func validate(_ kind: ViewRecipe, channels: Int) throws(RecipeError) -> [String] {
    try require("crop.scale", scale.low, in: 1e-6...1)
    try require("crop.scale", scale.high, in: 1e-6...1)
    try require("crop.ratio", ratio.low, in: 0.01...100)
    try require("crop.ratio", ratio.high, in: 0.01...100)
    return []
  }

  package func frame(width: Int, height: Int, size: Int, _ key: ViewKey) -> Frame {
    var draws = key.draws(.crop)
    return Frame(box(width: width, height: height, &draws))
  }

  /// The crop in whole pixels, inside the image.
  package func box(width: Int, height: Int, _ draws: inout Draws) -> PixelRect {
    switch sampling {
    case .retry: retry(width, height, &draws)
    case .clamp: clamp(width, height, &draws)
    case .height: byHeight(width, height, &draws)
    }
  }

  /// Width and height of a drawn area and ratio.
  private func sides(_ width: Int, _ height: Int, _ draws: inout Draws) -> (Int, Int) {
    let area = Double(width * height) * draws.uniform(in: scale.range)
    let aspect = exp(draws.uniform(in: log(ratio.low)...log(ratio.high)))
    return (
      Int((area * aspect).squareRoot().rounded(.toNearestOrEven)),
      Int((area / aspect).squareRoot().rounded(.toNearestOrEven))
    )
  }

  /// A box of w × h anywhere in the image.
  private func placed(
    _ w: Int, _ h: Int, in image: (width: Int, height: Int), _ draws: inout Draws
  ) -> PixelRect {
    let y = draws.integer(below: image.height - h + 1)
    let x = draws.integer(below: image.width - w + 1)
    return PixelRect(x: x, y: y, width: w, height: h)
  }

  private func retry(_ width: Int, _ height: Int, _ draws: inout Draws) -> PixelRect {
    for _ in 0..<10 {
      let (w, h) = sides(width, height, &draws)
      if 0 < w, w <= width, 0 < h, h <= height { return placed(w, h, in: (width, height), &draws) }
    }
    var w = width
    var h = height
    let aspect = Double(width) / Double(height)
    if aspect < ratio.low {
      h = min(height, max(1, Int((Double(w) / ratio.low).rounded(.toNearestOrEven))))
    } else if aspect > ratio.high {
      w = min(width, max(1, Int((Double(h) * ratio.high).rounded(.toNearestOrEven))))
    }
    return PixelRect(x: (width - w) / 2, y: (height - h) / 2, width: w, height: h)
  }

  private func clamp(_ width: Int, _ height: Int, _ draws: inout Draws) -> PixelRect {
    let (w, h) = sides(width, height, &draws)
    return placed(min(max(w, 1), width), min(max(h, 1), height), in: (width, height), &draws)
  }

  private func byHeight(_ width: Int, _ height: Int, _ draws: inout Draws) -> PixelRect {
    let image = Double(width * height)
    let low = max(scale.low, 0.1) * image
    let high = scale.high * image
    func round(_ value: Double) -> Int { Int(value.rounded(.toNearestOrEven)) }
    for _ in 0..<100 {
      let aspect = draws.uniform(in: ratio.range)
      let tallest = min(round((high / aspect).squareRoot()), Int((Double(width) + 0.5 - 1e-7) / aspect), height)
      var h = min(round((low / aspect).squareRoot()), tallest)
      h += draws.integer(below: tallest - h + 1)
      // Rounding may miss the smallest or the largest area by one row.
      if Double(round(Double(h) * aspect) * h) < low { h += 1 }
      if Double(round(Double(h) * aspect) * h) > high { h -= 1 }
      let w = round(Double(h) * aspect)
      let area = Double(w * h)
      guard w > 0, h > 0, w <= width, h <= height, low <= area, area <= high else { continue }
      return placed(w, h, in: (width, height), &draws)
    }
    return PixelRect(x: 0, y: 0, width: width, height: height)
  }
}

/// The same central part every time: the shorter side resized to size · `margin`, then the central square; or, with a
/// margin of 0, the whole image squeezed into the square.
package struct Centre: Framing, Options {
  package static let name = "centre"
  package var margin = 1.0
  package var interpolation = Interpolation.bilinear

  /// An option that is not given has its default.
  package init(margin: Double = Centre().margin, interpolation: Interpolation = Centre().interpolation) {
    self.margin = margin
    self.interpolation = interpolation
  }

  package init() {}

  package func validate(_ kind: ViewRecipe, channels: Int) throws(RecipeError) -> [String] {
    if margin != 0 { try require("centre.margin", margin, in: 1...10) }
    return []
  }

  /// Rounds as torchvision's `Resize` and `CenterCrop` do.
  package func frame(width: Int, height: Int, size: Int, _ key: ViewKey) -> Frame {
    let whole = PixelRect(x: 0, y: 0, width: width, height: height)
    if margin == 0 { return Frame(whole) }
    let short = Int((Double(size) * margin).rounded())
    let (w, h) = width <= height ? (short, short * height / width) : (short * width / height, short)
    let left = (Double(w - size) / 2).rounded(.toNearestOrEven)
    let top = (Double(h - size) / 2).rounded(.toNearestOrEven)
    let stepX = Double(width) / Double(w)
    let stepY = Double(height) / Double(h)
    let side = Double(size)
    return Frame(x: left * stepX, y: top * stepY, width: side * stepX, height: side * stepY, clip: whole)
  }
}
