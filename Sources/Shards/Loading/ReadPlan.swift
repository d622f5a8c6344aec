import Ranks

/// How a run reads its data: the order, with blocks and windows that fit the memory that the recipe allows.
///
/// The memory is given per image of the global batch, so that the order is the same for any number of ranks. A rank's
/// memory is proportional to its share of the batch, as its activations are.
package struct ReadPlan: Sendable {
  /// The order of the samples.
  package let order: Order
  /// Mean encoded bytes of a sample.
  package let meanLength: Int
  /// Notices that reads are not sequential, or that fewer blocks are shuffled than the recipe asks for, with the reason
  /// and the remedy.
  package let notices: [String]

  /// Smaller sets, in bytes, stay in the page cache, so that the order of reads does not matter.
  private static let smallSet = 1 << 30

  /// - Parameters:
  ///   - block, window, last: as `Order`.
  ///   - cache: bytes of encoded samples that may be kept per image of the batch.
  package init(
    _ source: any ImageSource, batch: Int, seed: UInt64, block: Int, window: Int, cache: Int, last: LastBatch
  ) throws {
    meanLength = try source.meanLength()
    order = Order(
      count: source.count, batch: batch, seed: seed, block: block, window: window, held: cache / meanLength, last: last)
    let isSmall = source.count * meanLength < Self.smallSet
    let mean = byteText(meanLength)
    if block > 1, order.block == 1, !isSmall {
      let why =
        source.count / batch < window
        ? "an epoch has \(source.count / batch) batches, data.window mixes \(window); a smaller data.window helps"
        : "data.cache keeps \(byteText(cache)) for each image of the batch; more helps"
      notices = ["reads are not sequential: each image, \(mean) on average, is read by itself, because \(why)"]
    } else if order.window < window {
      notices = [
        "\(order.window) blocks of \(order.block) images are mixed, not data.window's \(window): as many as "
          + "data.cache, \(byteText(cache)) for each image of the batch, holds of images of \(mean)"
      ]
    } else {
      notices = []
    }
  }

  /// Upper bound of the bytes of encoded samples that a rank keeps.
  package func cacheBytes(rank: Int, ranks: Int) -> Int {
    if order.block == 1 { return 0 }
    return share(of: order.batch, rank: rank, ranks: ranks).count * order.window * order.block * 3 / 2 * meanLength
  }
}
