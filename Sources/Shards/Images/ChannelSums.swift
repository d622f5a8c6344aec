/// Count, sum and sum of squares of samples in [0, 1] per channel, from which mean and standard deviation follow.
package struct ChannelSums: Sendable, Equatable {
  /// Pixels so far.
  package private(set) var count = 0.0
  /// Sum of each channel.
  package private(set) var sum: [Double]
  /// Sum of squares of each channel.
  package private(set) var squares: [Double]

  /// The sums of no images.
  package init(channels: Int) {
    sum = [Double](repeating: 0, count: channels)
    squares = sum
  }

  /// The sums of one image. They are exact, because samples are summed as integers.
  package init(_ pixels: Pixels) {
    self.init(channels: pixels.channels)
    count = Double(pixels.width * pixels.height)
    pixels.bytes.withUnsafeBytes { raw in
      for channel in 0..<pixels.channels {
        let (s, q, most) =
          pixels.depth == 8
          ? Self.sums(raw.bindMemory(to: UInt8.self).baseAddress!, channel, pixels)
          : Self.sums(raw.bindMemory(to: UInt16.self).baseAddress!, channel, pixels)
        sum[channel] = Double(s) / most
        squares[channel] = Double(q) / (most * most)
      }
    }
  }

  @inline(__always)
  private static func sums<T: FixedWidthInteger & UnsignedInteger>(
    _ samples: UnsafePointer<T>, _ channel: Int, _ pixels: Pixels
  ) -> (UInt64, UInt64, Double) {
    var sum: UInt64 = 0
    var squares: UInt64 = 0
    var at = channel
    for _ in 0..<pixels.width * pixels.height {  // at most 2²⁸ pixels of 16 bits: below 2⁶⁰, no overflow
      let value = UInt64(truncatingIfNeeded: samples[at])
      sum &+= value
      squares &+= value &* value
      at &+= pixels.channels
    }
    return (sum, squares, Double(T.max))
  }

  /// Adds the sums of other images. A grey image counts for every channel.
  package mutating func add(_ other: ChannelSums) {
    precondition(other.sum.count == sum.count || other.sum.count == 1, "\(other.sum.count) channels, \(sum.count) here")
    count += other.count
    for channel in sum.indices {
      sum[channel] += other.sum[other.sum.count == 1 ? 0 : channel]
      squares[channel] += other.squares[other.sum.count == 1 ? 0 : channel]
    }
  }

  /// Mean of each channel.
  package var mean: [Double] { sum.map { $0 / max(count, 1) } }

  /// Standard deviation of each channel.
  package var deviation: [Double] {
    zip(squares, mean).map { max(0, $0 / max(count, 1) - $1 * $1).squareRoot() }
  }
}
