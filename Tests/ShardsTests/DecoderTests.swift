import Foundation
import Shards
import Testing

@Suite struct DecoderTests {
  private func fixture(_ name: String) throws -> ImageImporter.Imported {
    var importer = ImageImporter(channels: nil)
    return try importer.take(file: Expectation.folder + "/" + name)
  }

  private func sample(_ p: Pixels, _ x: Int, _ y: Int, _ c: Int) -> Int {
    Int(p.bytes[(y * p.width + x) * p.channels + c])
  }

  @Test func scaledDecodingAtFullSizeHoldsTheRegionAndNearlyItsPixels() throws {
    // Rotated files too, because regions are in upright coordinates.
    for name in ["rgb.jpg", "progressive.jpg", "grey.jpg"] + (1...8).map({ "exif-\($0).jpg" }) {
      let imported = try fixture(name)
      let (whole, _) = try decode(imported, channels: 3)
      for (x, y, w, h) in [(0, 0, 3, 3), (5, 2, 7, 9), (1, 6, 15, 10), (9, 9, 6, 7)] {
        let region = PixelRect(x: x, y: y, width: w, height: h)
        let (part, held) = try decode(imported, channels: 3, region: region, target: 1000, scaled: true)
        #expect(held.step == 1, "\(name)")
        #expect(held.x <= Double(x) && held.y <= Double(y))
        #expect(Int(held.x) + part.width >= x + w && Int(held.y) + part.height >= y + h, "\(name)")
        for row in y..<y + h {
          for column in x..<x + w {
            for c in 0..<3 {
              let got = sample(part, column - Int(held.x), row - Int(held.y), c)
              // One more row and column on each side are decoded, so chroma is interpolated from the same neighbours.
              // Only h2v2 at a cut row can differ, by a rounding of its two-step average.
              #expect(abs(got - sample(whole, column, row, c)) <= 1, "\(name) \(column) \(row)")
            }
          }
        }
      }
    }
  }

  @Test func scaledDecodingKeepsTwiceTheTarget() throws {
    let imported = try fixture("rgb.jpg")  // 72 x 48
    for (target, scale) in [(3, 1), (6, 2), (7, 3), (12, 4), (13, 5), (23, 8), (24, 8), (100, 8)] {
      let (pixels, held) = try decode(imported, channels: 3, target: target, scaled: true)
      #expect(held == DecodedRegion(x: 0, y: 0, step: 8 / Double(scale)), "target \(target)")
      #expect(pixels.width == (72 * scale + 7) / 8 && pixels.height == (48 * scale + 7) / 8)
      #expect(scale == 8 || 48 * scale / 8 >= 2 * target)
    }
    let (_, held) = try decode(
      imported, channels: 3, region: .init(x: 0, y: 0, width: 16, height: 48), target: 4, scaled: true)
    #expect(held.step == 2)  // the shorter side decides
  }

  @Test func aScaledPixelIsTheMeanOfWhatItCovers() throws {
    // At 1/8 libjpeg keeps the mean of a luma block; compare it with the mean of the full-size grey pixels, away from
    // the edges. Rounding and clamping of 64 samples change a mean by less than 2 of 255.
    for name in ["grey.jpg", "progressive-grey.jpg"] {
      let imported = try fixture(name)
      let (whole, _) = try decode(imported, channels: 1)
      let (small, held) = try decode(imported, channels: 1, target: 1, scaled: true)
      #expect(held.step == 8)
      for y in 0..<small.height {
        for x in 0..<small.width {
          var sum = 0
          for j in 0..<8 { for i in 0..<8 { sum += sample(whole, 8 * x + i, 8 * y + j, 0) } }
          #expect(abs(Double(sum) / 64 - Double(sample(small, x, y, 0))) < 2)
        }
      }
    }
  }

  @Test func turnedScaledImagesLieWhereTheRegionSays() throws {
    // 24 x 16 stored: exactly 15 x 10 at 5/8, and 9 x 6 at 3/8. Mirrored axes must start at 0 too.
    for orientation in 1...8 {
      let imported = try fixture("exif-\(orientation).jpg")
      let (pixels, held) = try decode(imported, channels: 3, target: 5, scaled: true)
      let sides = orientation >= 5 ? [10, 15] : [15, 10]
      #expect([pixels.width, pixels.height] == sides && held == DecodedRegion(x: 0, y: 0, step: 1.6))
    }
    // A size that M/8 does not divide: a mirrored image extends beyond its left edge.
    let odd = try fixture("sampling-444.jpg")  // 37 x 29
    var turned = odd
    turned.record.orientation = 3
    let (pixels, held) = try decode(turned, channels: 3, target: 3, scaled: true)
    #expect(pixels.width == 10 && pixels.height == 8)
    #expect(held == DecodedRegion(x: 37 - 40, y: 29 - 32, step: 4))
  }

  @Test func channelsAreWhatIsAskedFor() throws {
    let grey = try fixture("grey.jpg")
    let colour = try fixture("rgb.jpg")
    let inks = try fixture("ycck.jpg")
    let (three, _) = try decode(grey, channels: 3)
    let (one, _) = try decode(grey, channels: 1)
    #expect(three.channels == 3 && one.channels == 1)
    for i in 0..<one.size { #expect((0..<3).allSatisfy { three.bytes[3 * i + $0] == one.bytes[i] }) }
    for imported in [colour, inks, try fixture("rgb.png")] {
      let (rgb, _) = try decode(imported, channels: 3)
      let (luma, _) = try decode(imported, channels: 1)
      #expect(luma.channels == 1 && luma.size * 3 == rgb.size)
      for i in 0..<luma.size {
        let weighed =
          0.299 * Double(rgb.bytes[3 * i]) + 0.587 * Double(rgb.bytes[3 * i + 1]) + 0.114 * Double(rgb.bytes[3 * i + 2])
        // The JPEG's luma is not clamped as RGB is, so saturated colours differ; others differ by rounding.
        let clamped = (0..<3).contains { [0, 255].contains(rgb.bytes[3 * i + $0]) }
        if !clamped { #expect(abs(weighed - Double(luma.bytes[i])) < 1.6) }
      }
    }
  }

  @Test func bytesThatAreNotWhatTheIndexSaysAreAnError() throws {
    var imported = try fixture("rgb.jpg")
    imported.record.width += 1
    #expect(throws: ImageError.self) { try decode(imported, channels: 3) }
    imported = try fixture("rgb.png")
    imported.bytes.removeLast()
    #expect(throws: ImageError.self) { try decode(imported, channels: 3) }
    #expect(throws: ImageError.self) { try decode(try fixture("rgb.jpg"), channels: 5) }
  }

  @Test func meanAndDeviationAreThoseOfTheSamples() throws {
    for name in ["rgb.jpg", "grey-16.png"] {
      let imported = try fixture(name)
      let (pixels, _) = try decode(imported, channels: nil)
      let sums = ChannelSums(pixels)
      for c in 0..<pixels.channels {
        let values = (0..<pixels.width * pixels.height).map { i -> Double in
          let at = i * pixels.channels + c
          if pixels.depth == 8 { return Double(pixels.bytes[at]) / 255 }
          return pixels.bytes.withUnsafeBytes { Double($0.loadUnaligned(fromByteOffset: 2 * at, as: UInt16.self)) }
            / 65535
        }
        let mean = values.reduce(0, +) / Double(values.count)
        let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)
        #expect(abs(sums.mean[c] - mean) < 1e-12 && abs(sums.deviation[c] - variance.squareRoot()) < 1e-9)
      }
    }
  }
}
