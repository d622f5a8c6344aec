import Foundation

/// Height, width and channels of a map.
struct WinogradMap { let h: Int, w: Int, c: Int }

/// A map that tiles are cut from.
struct WinogradPatches {
  /// (N, H, W, C)
  let x: UnsafePointer<Float>
  let map: WinogradMap
  /// Lines from one tile's patch to the next.
  let advance: Int
  /// Lines of padding above the first patch.
  let margin: Int
}

/// Memory of the block loops: V and M (or E) of one block for each slot, and what transforms need beside them.
struct WinogradWorkbench {
  /// Floats from one product's matrix to the next.
  let vStep: Int, mStep: Int
  /// Products of a tile.
  private let products: Int
  private let buffers: UnsafeMutablePointer<Float>
  private let vectors: WinogradVectors
  private let patches: UnsafeMutablePointer<UnsafePointer<Float>>
  /// Lines of padding point here.
  private let zeros: UnsafePointer<Float>
  /// Tiles whose patches are asked for ahead of use.
  private static let ahead = 2

  /// - Parameters:
  ///   - products: of a tile, along one direction.
  ///   - capacity: tiles of a block at most.
  ///   - c: channels of V.
  ///   - k: channels of M.
  init(_ context: Context, _ arena: Arena, products: Int, capacity: Int, c: Int, k: Int) {
    vStep = Winograd.step(capacity * c)
    mStep = Winograd.step(capacity * k)
    self.products = products * products
    let threads = context.team.count
    let count = 9 * max(c, k)
    buffers = arena.array(of: Float.self, count: threads * self.products * (vStep + mStep)).baseAddress!
    vectors = WinogradVectors(context, arena)
    patches = arena.array(of: UnsafePointer<Float>.self, count: threads * 3 * 16).baseAddress!
    let zeros = arena.array(of: Float.self, count: count).baseAddress!
    if !context.isDry { memset(zeros, 0, count * MemoryLayout<Float>.stride) }
    self.zeros = UnsafePointer(zeros)
  }

  /// V of a slot's block, at a product.
  func v(_ slot: Int, _ product: Int) -> UnsafeMutablePointer<Float> {
    buffers + (slot * products * (vStep + mStep) + product * vStep)
  }

  /// M (or E) of a slot's block, at a product.
  func m(_ slot: Int, _ product: Int) -> UnsafeMutablePointer<Float> {
    buffers + (slot * products * (vStep + mStep) + products * vStep + product * mStep)
  }

  /// A thread's own vectors.
  func work(_ thread: Int) -> UnsafeMutablePointer<Lanes> { vectors[thread] }

  /// Where the lines of a tile's patch are; three tiles that follow one another have places of their own.
  private func lines(_ thread: Int, _ tile: Int) -> UnsafeMutablePointer<UnsafePointer<Float>> {
    patches + (thread * 3 + tile % 3) * 16
  }

  /// Transforms the patches of some tiles.
  /// - Parameters:
  ///   - some: which tiles.
  ///   - v: the first product's row of the first tile.
  ///   - step: floats from one product to the next.
  func transform<S: WinogradScheme, T: LineTransform>(
    _: S.Type, _: T.Type, _ patches: WinogradPatches, _ tiles: WinogradTiles, _ some: Range<Int>,
    into v: UnsafeMutablePointer<Float>, step: Int, thread: Int
  ) {
    let map = patches.map
    // Prefetches the patches of later tiles: neither their lines nor the next image's follow this tile's in memory.
    for tile in some.prefix(Self.ahead) { locate(tile, T.inputs, patches, tiles, into: lines(thread, tile)) }
    for tile in some {
      let later = min(tile + Self.ahead, some.upperBound - 1)
      locate(later, T.inputs, patches, tiles, into: lines(thread, later))
      let (_, line, column) = tiles.place(of: tile)
      let left = column * patches.advance - patches.margin
      Winograd.gather(
        S.self, T.self, tile: tiles.extent(line, column), lines(thread, tile), ahead: lines(thread, later),
        columns: max(0, -left)..<min(T.inputs, map.w - left), channels: map.c,
        into: v + (tile - some.lowerBound) * map.c, step: step, work(thread))
    }
  }

  /// Finds the lines of a tile's patch: each begins at the patch's left column, which padding may put before the map.
  @inline(__always)
  private func locate(
    _ tile: Int, _ count: Int, _ patches: WinogradPatches, _ tiles: WinogradTiles,
    into lines: UnsafeMutablePointer<UnsafePointer<Float>>
  ) {
    let map = patches.map
    let (image, line, column) = tiles.place(of: tile)
    let top = line &* patches.advance &- patches.margin
    let left = column &* patches.advance &- patches.margin
    for i in 0..<count {
      let y = top &+ i
      lines[i] = y < 0 || y >= map.h ? zeros : patches.x + ((image &* map.h &+ y) &* map.w &+ left) &* map.c
    }
  }
}
