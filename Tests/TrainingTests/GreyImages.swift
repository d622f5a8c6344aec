import Foundation
import Randomness
import Shards

/// A data set of square grey images, in a folder that goes with it.
final class GreyImages {
  private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("grey-\(UUID().uuidString)").path
  let data: DataSet

  /// - Parameters:
  ///   - classes: which images have in turn; 0 for images without labels.
  ///   - pixels: the side² values of an image, from its own draws.
  init(count: Int, side: Int, classes: Int = 0, pixels: (inout Draws) -> [UInt8]) throws {
    let writer = try DataSetWriter(folder, classNames: (0..<classes).map { "class \($0)" }, shardSize: 1 << 20)
    var record = ImageRecord(length: side * side, width: side, height: side, channels: 1, encoding: .raw, colour: 1)
    for sample in 0..<count {
      if classes > 0 { record.label = Int32(sample % classes) }
      var draws = Draws(seed: 4, .check, UInt64(sample))
      try pixels(&draws).withUnsafeBytes { try writer.append($0, record, key: "\(sample)") }
    }
    try writer.finish(mean: [0.5], deviation: [0.3])
    data = try DataSet(at: folder)
  }

  /// Images of keyed noise.
  static func noise(count: Int, side: Int, classes: Int = 0) throws -> GreyImages {
    try GreyImages(count: count, side: side, classes: classes) { draws in
      (0..<side * side).map { _ in UInt8(truncatingIfNeeded: draws.bits()) }
    }
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }
}
