/// What the loader needs of a data set: its index, and the bytes of consecutive samples. `DataSet` conforms; tests have
/// others. Any thread may call it.
package protocol ImageSource: AnyObject, Sendable {
  /// Number of samples.
  var count: Int { get }
  /// Channels of a decoded image.
  var channels: Int { get }
  /// Mean of each channel, of values in [0, 1].
  var mean: [Double] { get }
  /// Standard deviation of each channel, of values in [0, 1].
  var deviation: [Double] { get }
  /// The index entry of a sample.
  func record(_ sample: Int) throws -> ImageRecord
  /// Name of a sample, for messages.
  func name(_ sample: Int) -> String
  /// The samples of the shard that holds this one.
  func neighbours(of sample: Int) -> Range<Int>
  /// Reads the bytes of consecutive samples of one shard into the start of `bytes`, which grows if it is too short.
  func fetch(_ samples: Range<Int>, into bytes: inout [UInt8]) throws
}

extension ImageSource {
  /// Mean encoded bytes of a sample, estimated from about 1024 samples; at least 1.
  package func meanLength() throws -> Int {
    let step = max(1, count / 1024)
    let lengths = try stride(from: 0, to: count, by: step).map { try record($0).length }
    return max(1, lengths.reduce(0, +) / lengths.count)
  }
}

extension DataSet: ImageSource {
  package func name(_ sample: Int) -> String {
    let shard = shards[self.shard(of: sample)].path
    return (try? key(sample)).map { "\($0) in \(shard)" } ?? shard
  }

  package func neighbours(of sample: Int) -> Range<Int> { shards[shard(of: sample)].samples }

  package func fetch(_ samples: Range<Int>, into bytes: inout [UInt8]) throws {
    try read(samples: samples, into: &bytes)
    try bytes.withUnsafeBytes { buffer in
      let first = record(samples.lowerBound).offset
      for sample in samples {
        let record = record(sample)
        let start = record.offset - first
        guard checksum(UnsafeRawBufferPointer(rebasing: buffer[start..<start + record.length])) == record.checksum
        else {
          throw ImageError("its bytes are not those that were packed; `apus inspect --verify` lists what is damaged")
        }
      }
    }
  }
}
