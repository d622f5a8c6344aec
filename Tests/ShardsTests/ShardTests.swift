import Foundation
import HDF5
import Shards
import Testing

/// A temporary folder that is removed with the object.
final class TemporaryFolder {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// Raw images of different sizes, whose bytes are a function of the sample.
func rawBytes(_ sample: Int) -> [UInt8] {
  let side = 3 + sample % 5
  return (0..<side * side * 3).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ sample) }
}

func rawRecord(_ sample: Int) -> ImageRecord {
  let side = 3 + sample % 5
  return ImageRecord(
    length: side * side * 3, width: side, height: side, channels: 3, encoding: .raw, colour: 2,
    label: Int32(sample % 3) - 1, group: Int64(sample / 4) - 1)
}

/// A set of raw images over several shards.
func writeSet(_ path: String, images: Int, shardSize: Int) throws {
  let writer = try DataSetWriter(path, classNames: ["ant", "bee"], shardSize: shardSize)
  for sample in 0..<images {
    try rawBytes(sample).withUnsafeBytes { try writer.append($0, rawRecord(sample), key: "folder/é\(sample).raw") }
  }
  try writer.finish(mean: [0.1, 0.2, 0.3], deviation: [0.4, 0.5, 0.6])
}

@Suite struct ShardTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  @Test func aSetReadsBackAsItWasWritten() throws {
    let path = folder.path + "/set"
    try writeSet(path, images: 50, shardSize: 600)
    let set = try DataSet(at: path)
    #expect(set.count == 50)
    #expect(set.shards.count > 3)
    #expect(set.channels == 3 && set.classNames == ["ant", "bee"])
    #expect(set.mean == [0.1, 0.2, 0.3] && set.deviation == [0.4, 0.5, 0.6])
    var bytes: [UInt8] = []
    for sample in 0..<50 {
      let record = set.record(sample)
      let expected = rawBytes(sample)
      try set.read(sample, into: &bytes)
      #expect(Array(bytes.prefix(record.length)) == expected)
      #expect(record.checksum == expected.withUnsafeBytes { checksum($0) })
      #expect(record.width == 3 + sample % 5 && record.group == Int64(sample / 4) - 1)
      #expect(set.label(sample) == (sample % 3 == 0 ? nil : sample % 3 - 1))
      #expect(try set.key(sample) == "folder/é\(sample).raw")
    }
    for shard in set.shards {
      try set.read(samples: shard.samples, into: &bytes)
      #expect(Array(bytes.prefix(shard.byteCount)) == shard.samples.flatMap(rawBytes))
      #expect(shard.byteCount <= 600)
    }
  }
}
