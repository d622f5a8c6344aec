import Randomness
import Shards
import Synchronization

/// A data set in memory: small raw images of keyed noise, in shards of `perShard`.
final class MemorySource: ImageSource {
  let count: Int, channels: Int, mean: [Double], deviation: [Double]
  private let perShard: Int
  private let records: [ImageRecord]
  private let bytes: [UInt8]
  private let damaged: Set<Int>
  /// How often each sample was fetched, and in how many calls.
  let fetched: Mutex<(samples: [Int], calls: Int)>

  init(
    count: Int, channels: Int = 3, perShard: Int = 1000, damaged: Set<Int> = [], mean: Double = 0.4,
    deviation: Double = 0.2
  ) {
    self.count = count
    self.channels = channels
    self.perShard = perShard
    self.damaged = damaged
    self.mean = [Double](repeating: mean, count: channels)
    self.deviation = [Double](repeating: deviation, count: channels)
    var records: [ImageRecord] = []
    var bytes: [UInt8] = []
    for sample in 0..<count {
      var draws = Draws(seed: 9, .check, UInt64(sample))
      let width = 8 + draws.integer(below: 5)
      let height = 8 + draws.integer(below: 5)
      let length = width * height * channels
      let offset = sample % perShard == 0 ? 0 : records[sample - 1].offset + records[sample - 1].length
      records.append(
        ImageRecord(
          offset: offset, length: length, width: width, height: height, channels: channels, encoding: .raw,
          label: Int32(sample % 10)))
      for _ in 0..<length { bytes.append(UInt8(truncatingIfNeeded: draws.bits())) }
    }
    self.records = records
    self.bytes = bytes
    fetched = Mutex(([Int](repeating: 0, count: count), 0))
    starts = records.indices.reduce(into: [0]) { $0.append($0[$1] + records[$1].length) }
  }

  private let starts: [Int]
  var byteCount: Int { bytes.count }

  func record(_ sample: Int) -> ImageRecord { records[sample] }
  func name(_ sample: Int) -> String { "sample/\(sample) in shard \(sample / perShard)" }
  func neighbours(of sample: Int) -> Range<Int> {
    sample / perShard * perShard..<min(count, (sample / perShard + 1) * perShard)
  }
  func fetch(_ samples: Range<Int>, into out: inout [UInt8]) throws {
    precondition(neighbours(of: samples.lowerBound) == neighbours(of: samples.upperBound - 1), "over a shard's end")
    if let sample = samples.first(where: damaged.contains) { throw ImageError("sample \(sample) is damaged") }
    out = Array(bytes[starts[samples.lowerBound]..<starts[samples.upperBound]])
    fetched.withLock {
      $0.calls += 1
      for sample in samples { $0.samples[sample] += 1 }
    }
  }
}
