import Foundation
import Randomness
import Shards
import Testing

/// The expected result for a file of `Fixtures/hostile`; see Scripts/make-hostile-images.
struct Expectation: Decodable {
  var width: Int?, height: Int?, channels: Int?, depth: Int?, crc32: UInt32?
  var reason: String?

  static let folder = Bundle.module.resourcePath! + "/Fixtures/hostile"

  static func all() throws -> [String: Expectation] {
    let data = try Data(contentsOf: URL(fileURLWithPath: folder + "/expect.json"))
    return try JSONDecoder().decode([String: Expectation].self, from: data)
  }
}

/// Decodes an imported file as a shard stores it.
func decode(
  _ imported: ImageImporter.Imported, channels: Int?, region: PixelRect? = nil, target: Int? = nil, scaled: Bool = false
) throws -> (Pixels, DecodedRegion) {
  var pixels = Pixels()
  var decoder = ImageDecoder(channels: channels)
  let held = try imported.bytes.withUnsafeBytes {
    try decoder.decode($0, imported.record, region: region, target: target, scaled: scaled, into: &pixels)
  }
  return (pixels, held)
}

func crc(_ pixels: Pixels) -> UInt32 { pixels.bytes.withUnsafeBytes { checksum(.init(rebasing: $0[..<pixels.size])) } }

@Suite struct HostileTests {
  @Test func everyGoodFileDecodesToPillowsPixelsAndEveryBadOneSaysWhy() throws {
    let all = try Expectation.all()
    #expect(all.count > 90)
    for (name, expected) in all.sorted(by: { $0.key < $1.key }) {
      var importer = ImageImporter(channels: nil)
      do {
        let imported = try importer.take(file: Expectation.folder + "/" + name)
        if let reason = expected.reason {
          Issue.record("\(name) was taken, expected \"\(reason)\"")
          continue
        }
        let (pixels, held) = try decode(imported, channels: nil)
        #expect(held == DecodedRegion(), "\(name)")
        #expect([imported.record.width, imported.record.height] == [expected.width, expected.height], "\(name)")
        #expect(
          [pixels.width, pixels.height, pixels.channels] == [expected.width, expected.height, expected.channels])
        #expect(pixels.depth == expected.depth, "\(name)")
        // Both decoders use the same integer arithmetic, so results are equal to the bit.
        #expect(crc(pixels) == expected.crc32, "\(name)")
      } catch let error as ImageError {
        #expect(error.reason.contains(expected.reason ?? "nothing"), "\(name): \(error.reason)")
      }
    }
  }

  @Test func changedFilesNeverCrash() throws {
    // Changes a few bytes of every file or cuts its end. The result must be an image, of which any region decodes at
    // any scale, or a typed error.
    let rounds = ProcessInfo.processInfo.environment["APUS_FUZZ"].flatMap(Int.init) ?? 5
    var importer = ImageImporter(channels: 3)
    for (number, name) in try Expectation.all().keys.sorted().enumerated() where !name.hasPrefix("flat-") {
      let whole = [UInt8](try Data(contentsOf: URL(fileURLWithPath: Expectation.folder + "/" + name)))
      var draws = Draws(seed: 9, .check, UInt64(number))
      for _ in 0..<rounds where !whole.isEmpty {
        var bytes = whole
        for _ in 0...draws.integer(below: 4) {
          // Half of the changes in the first 200 bytes, where the sizes are.
          let range = draws.chance(0.5) ? min(200, bytes.count) : bytes.count
          bytes[draws.integer(below: range)] = UInt8(draws.integer(below: 256))
        }
        if draws.chance(0.2) { bytes.removeLast(draws.integer(below: bytes.count)) }
        guard let imported = try? importer.take(bytes) else { continue }
        let width = imported.record.width
        let height = imported.record.height
        let x = draws.integer(below: width)
        let y = draws.integer(below: height)
        let region = PixelRect(
          x: x, y: y, width: 1 + draws.integer(below: width - x), height: 1 + draws.integer(below: height - y))
        let (part, held) = try decode(
          imported, channels: 3, region: region, target: 1 + draws.integer(below: 16), scaled: true)
        let right = held.x + Double(part.width) * held.step
        let bottom = held.y + Double(part.height) * held.step
        let rounding = 1e-9  // 8/M is not exact for M = 3, 5, 6, 7
        #expect(held.x <= Double(x) + rounding && right >= Double(x + region.width) - rounding, "\(name)")
        #expect(held.y <= Double(y) + rounding && bottom >= Double(y + region.height) - rounding, "\(name)")
      }
    }
  }
}
