/// What the loader needs of a data set: its index, and bytes of consecutive samples. `DataSet` is one; tests bring
/// others. Called from any thread.
package protocol ImageSource: AnyObject, Sendable {
  var count: Int { get }
  var channels: Int { get }
  /// Per channel, of values in [0, 1].
  var mean: [Double] { get }
  var deviation: [Double] { get }
  func record(_ sample: Int) -> ImageRecord
  /// Names a sample for a message.
  func name(_ sample: Int) -> String
  /// The samples of the shard that holds this one.
  func shard(of sample: Int) -> Range<Int>
  /// The bytes of consecutive samples of one shard, from the first one's offset.
  func fetch(_ samples: Range<Int>, into bytes: inout [UInt8]) throws
}

extension ImageSource {
  /// Mean encoded bytes of a sample, from at most 1024 of them.
  var meanLength: Int {
    let stride = max(1, count / 1024)
    let lengths = Swift.stride(from: 0, to: count, by: stride).map { record($0).length }
    return lengths.reduce(0, +) / lengths.count
  }
}
