/// How the tiles of a convolution are cut into blocks, and the blocks into partial sums. All of it follows from the
/// shape, so results do not depend on the number of threads.
struct WinogradBlocks {
  let tiles: WinogradTiles
  /// Tiles of a block: as even as can be, a multiple of the six rows that the micro-kernel takes.
  let size: Int
  /// Blocks of all tiles.
  let count: Int
  /// Tiles that a block's memory is planned for. A smaller batch never needs more, so a dry run of the largest step
  /// serves all steps.
  let capacity: Int

  init(_ shape: ConvolutionShape) {
    tiles = WinogradTiles(images: shape.n, height: shape.height, width: shape.width)
    let limit = Self.limit(shape)
    size = pieces(pieces(tiles.count, of: pieces(tiles.count, of: limit)), of: 6) * 6
    count = pieces(tiles.count, of: size)
    capacity = min(limit, pieces(tiles.count, of: 6) * 6)
  }

  /// Tiles of a block at most. Both transforms of a block take a megabyte, the size of the L2 cache. Every block reads
  /// all weights again, so where these take more than 4.5 MiB, blocks are larger.
  private static func limit(_ shape: ConvolutionShape) -> Int {
    let least = shape.c * shape.k > 1 << 15 ? 144 : 48
    let products = shape.stride == 1 ? 36 : 81
    return max(least, (1 << 18) / (products * (shape.c + shape.k)) / 6 * 6)
  }

  /// Whether tiles are so few that transformed weights, or their gradients, should stay in the cache: each panel of the
  /// 36 matrices is made and used up at once, and the tiles are read again for each panel. A ResNet-18's step at 32 px
  /// takes three quarters of the time with 4 images, where the last stage has 8 tiles of 512 channels, and nine tenths
  /// with 16.
  func areFew(atMost most: Int) -> Bool { count == 1 && tiles.count <= most }

  /// The tiles of a block.
  func block(_ index: Int) -> Range<Int> { piece(index, of: size, in: 0..<tiles.count) }

  /// Partial sums of the weight's gradient. With several, a thread keeps a block to itself: one thread's transforms
  /// would be another thread's cache misses. Each sum takes four times the weight's memory, which 512 tiles are worth,
  /// and fewer than eight sums could not be shared out evenly.
  var sums: Int {
    let most = tiles.count / 512
    return most < 8 ? 1 : min(16, most)
  }

  /// The blocks of a partial sum.
  func blocks(of sum: Int) -> Range<Int> { count * sum / sums..<count * (sum + 1) / sums }

  /// Calls `body` for slices of the blocks of a wave, on all threads.
  /// - Parameters:
  ///   - wave: blocks; the first has slot 0.
  ///   - body: gets a slice, its block's slot, and the place of the slice's first tile within the block.
  func runSlices(
    of wave: Range<Int>, _ context: Context, _ body: (_ slice: WinogradSlice, _ thread: Int) -> Void
  ) {
    let slice = 16
    let slices = pieces(size, of: slice)
    context.run(wave.count * slices) { index, thread in
      let slot = index / slices
      let some = block(wave.lowerBound + slot)
      let at = index % slices * slice
      if at < some.count {
        body(WinogradSlice(tiles: piece(index % slices, of: slice, in: some), slot: slot, at: at), thread)
      }
    }
  }

  /// The products that share a transformed weight, and which of a block's tiles, from `at`, take part in each.
  @inline(__always)
  func forEachProduct<S: WinogradScheme>(
    _: S.Type, of weight: Int, _ block: Range<Int>, _ body: (_ product: Int, _ at: Int, _ count: Int) -> Void
  ) {
    for i in S.products(of: weight / Winograd.weights) {
      for j in S.products(of: weight % Winograd.weights) {
        let some = tiles.takingPart(S.self, i, j).clamped(to: block)
        if !some.isEmpty { body(i * S.Input.outputs + j, some.lowerBound - block.lowerBound, some.count) }
      }
    }
  }
}

/// Tiles of one block that follow one another.
struct WinogradSlice {
  let tiles: Range<Int>
  /// Where the block's memory is: a number of `WinogradWorkbench`'s slots.
  let slot: Int
  /// Place of the first of the tiles within the block.
  let at: Int
}
