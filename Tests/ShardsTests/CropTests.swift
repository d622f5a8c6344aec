import Randomness
import Shards
import Testing

@Suite struct CropTests {
  static let sizes = [(500, 375), (375, 500), (28, 28), (32, 1), (1, 40), (3, 2), (4000, 30), (1, 1), (224, 224)]
  static let crops = CropSampling.allCases.flatMap { sampling in
    [
      (0.08, 1.0, 0.75, 4.0 / 3), (0.2, 1, 0.75, 4.0 / 3), (0.05, 0.14, 0.75, 4.0 / 3), (1, 1, 1, 1),
      (0.3, 0.3, 0.5, 2),
    ]
    .map { Crop(scale: Bounds($0.0, $0.1), ratio: Bounds($0.2, $0.3), sampling: sampling) }
  }

  /// Every crop lies inside the image. One that is not a fallback has area and ratio in their ranges, up to rounding of
  /// each side by half a pixel.
  @Test(arguments: crops) func liesInsideAndInRange(_ crop: Crop) {
    for (width, height) in Self.sizes {
      var kept = 0
      for seed in 0..<200 as Range<UInt64> {
        var draws = Draws(seed: seed, .crop)
        let box = crop.box(width: width, height: height, &draws)
        let inside =
          box.x >= 0 && box.y >= 0 && box.width > 0 && box.height > 0 && box.x + box.width <= width
          && box.y + box.height <= height
        if !inside { Issue.record("\(box) of \(width) x \(height), seed \(seed)") }
        let w = Double(box.width)
        let h = Double(box.height)
        let image = Double(width * height)
        let high = (w + 0.5) * (h + 0.5) / image
        let low = (w - 0.5) * (h - 0.5) / image
        let wide = (w + 0.5) / (h - 0.5)
        let narrow = (w - 0.5) / (h + 0.5)
        let fits =
          high >= crop.scale.low && low <= crop.scale.high
          && wide >= crop.ratio.low && narrow <= crop.ratio.high
        if fits { kept += 1 }
      }
      // Images of common shapes have such crops, unless only one area is allowed, which whole pixels may miss.
      // `clamp` cuts crops that do not fit, which sometimes changes the ratio.
      if width == 500 || width == 375, crop.scale.low < crop.scale.high {
        #expect(kept >= (crop.sampling == .clamp ? 150 : 200), "\(kept) of 200 fit")
      }
    }
  }

  /// Areas and positions are uniform: within five standard errors the mean area is (low + high)/2, and the mean centre
  /// is the image's.
  @Test func drawsEvenly() {
    let crop = Crop(scale: Bounds(0.1, 0.5))
    let n = 4000.0
    var area = 0.0
    var x = 0.0
    var y = 0.0
    for seed in 0..<4000 as Range<UInt64> {
      var draws = Draws(seed: seed, .crop)
      let box = crop.box(width: 600, height: 600, &draws)
      area += Double(box.width * box.height) / 360_000
      x += Double(box.x) + Double(box.width) / 2
      y += Double(box.y) + Double(box.height) / 2
    }
    #expect(abs(area / n - 0.3) < 5 * 0.4 / 12.0.squareRoot() / n.squareRoot() + 1e-3)
    #expect(abs(x / n - 300) < 5 * 300 / 12.0.squareRoot() / n.squareRoot())
    #expect(abs(y / n - 300) < 5 * 300 / 12.0.squareRoot() / n.squareRoot())
  }

  @Test func fallsBackToTheLargestCentralCrop() {
    var draws = Draws(seed: 1, .crop)
    // A crop of a third of the area at a ratio near 1 does not fit into 1000 x 10.
    let crop = Crop(scale: Bounds(0.3, 1), ratio: Bounds(0.75, 1.25))
    #expect(crop.box(width: 1000, height: 10, &draws) == PixelRect(x: 494, y: 0, width: 12, height: 10))
    #expect(crop.box(width: 12, height: 1000, &draws) == PixelRect(x: 0, y: 492, width: 12, height: 16))
  }

  @Test func simclrNeverCropsBelowATenth() {
    let crop = Crop(sampling: .height)
    for seed in 0..<500 as Range<UInt64> {
      var draws = Draws(seed: seed, .crop)
      let box = crop.box(width: 500, height: 375, &draws)
      #expect(Double(box.width * box.height) >= 0.1 * 500 * 375)
    }
  }

  /// TensorFlow's sampler never puts a crop at the right or the bottom edge; this one does, as the others do.
  @Test(arguments: CropSampling.allCases) func cropsReachEveryEdge(_ sampling: CropSampling) {
    let crop = Crop(sampling: sampling)
    var edges: Set<String> = []
    for seed in 0..<2000 as Range<UInt64> {
      var draws = Draws(seed: seed, .crop)
      let box = crop.box(width: 40, height: 30, &draws)
      if box.width < 40, box.x == 0 { edges.insert("left") }
      if box.width < 40, box.x + box.width == 40 { edges.insert("right") }
      if box.height < 30, box.y == 0 { edges.insert("top") }
      if box.height < 30, box.y + box.height == 30 { edges.insert("bottom") }
    }
    #expect(edges.count == 4, "\(edges)")
  }

  @Test func centreIsCentral() {
    let key = ViewKey(seed: 0, epoch: 0, step: 0, sample: 0, view: 0)
    // 500 x 375 resized to 341 x 256, columns 58 ... 282 (58.5 rounded to even) and rows 16 ... 240 of it.
    let frame = Centre(margin: 8.0 / 7).frame(width: 500, height: 375, size: 224, key)
    #expect(frame.clip == PixelRect(x: 0, y: 0, width: 500, height: 375))
    #expect(abs(frame.x - 58 * 500.0 / 341) < 1e-9 && abs(frame.width - 224 * 500.0 / 341) < 1e-9)
    #expect(abs(frame.y - 16 * 375.0 / 256) < 1e-9 && abs(frame.height - 224 * 375.0 / 256) < 1e-9)
    #expect(
      Centre(margin: 0).frame(width: 30, height: 20, size: 8, key)
        == Frame(PixelRect(x: 0, y: 0, width: 30, height: 20)))
  }
}
