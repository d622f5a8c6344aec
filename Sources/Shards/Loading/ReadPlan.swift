import Ranks

/// How a run reads its data: the order, cut into blocks and windows that fit the memory a recipe allows.
///
/// The memory is given for each image of the global batch. So the order is the same for any number of ranks, and a rank
/// takes memory in proportion to its share of the batch, as its activations do.
package struct ReadPlan: Sendable {
  package let order: Order
  /// Mean encoded bytes of a sample.
  package let meanLength: Int
  /// Where reads are not sequential, or fewer blocks are mixed than the recipe asks for, why and what to do.
  package let notices: [String]

  /// Sets below it stay in the page cache, where the order of reads does not matter.
  private static let smallSet = 1 << 30

  /// - Parameters:
  ///   - block, window, last: as `Order`.
  ///   - cache: bytes of encoded samples that may be kept for each image of the batch.
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

  /// Bytes of encoded samples that a rank keeps at most.
  package func cacheBytes(rank: Int, ranks: Int) -> Int {
    if order.block == 1 { return 0 }
    return share(of: order.batch, rank: rank, ranks: ranks).count * order.window * order.block * 3 / 2 * meanLength
  }
}
