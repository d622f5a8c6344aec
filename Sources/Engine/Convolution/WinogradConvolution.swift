import Foundation

/// 3×3 convolution with padding 1 and stride 1 or 2 by Winograd's filtering: a GEMM for each product of a tile, over
/// blocks of tiles whose transforms stay in the L2 cache.
///
///     forward          V = T x Tᵀ,  M[p] = V[p] · U[p],  y = S M Sᵀ      V (tiles, C), U (C, K), M (tiles, K)
///     data gradient    the same from dy with the kernel turned around
///     weight gradient  E = Sᵀ dy S,  dU[p] += V[p]ᵀ · E[p],  dW += Kᵀ dU K
///
/// Sums over filters and channels run inside a GEMM; only the weight gradient sums over blocks, in their order, in up to
/// sixteen partial sums. Blocks and sums are cut by shapes alone, so any number of threads gives the same bits.
struct WinogradConvolution {
  let shape: ConvolutionShape
  let context: Context
  private let tiles: WinogradTiles

  init(_ shape: ConvolutionShape, _ context: Context) {
    self.shape = shape
    self.context = context
    tiles = WinogradTiles(images: shape.n, height: shape.height, width: shape.width)
  }

  /// Whether this way exists for the shape.
  static func exists(_ shape: ConvolutionShape) -> Bool {
    shape.kernel == 3 && shape.stride <= 2 && shape.padding == 1
      && shape.c % Lanes.scalarCount == 0 && shape.k % Lanes.scalarCount == 0
  }

  /// Whether it is also faster. In products for each pair of a channel and a filter: 9 an output against 36 or 81 a
  /// tile, fewer for the last of a line or column, with a fifth for the transforms of tiles. Making a weight costs too
  /// little to count where tiles are few: two of them and 512 channels are faster than the convolution itself.
  var pays: Bool {
    let products = shape.stride == 1 ? tiles.products(WinogradStride1.self) : tiles.products(WinogradStride2.self)
    return 5 * 9 * shape.rows > 6 * products
  }

  /// y ← x convolved with the weight (3, 3, C, K).
  func forward(_ x: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>) {
    let from = Map(h: shape.h, w: shape.w, c: shape.c)
    let to = Map(h: shape.height, w: shape.width, c: shape.k)
    func run<S: WinogradScheme>(_: S.Type) {
      multiply(
        S.self, S.Input.self, S.Output.self, x, from, advance: S.advance, margin: S.margin, weight, turned: false,
        into: y,
        to, accumulate: false)
    }
    if shape.stride == 1 { run(WinogradStride1.self) } else { run(WinogradStride2.self) }
  }

  /// dx ← (or +=) dy convolved with the turned weight.
  func dataGradient(
    _ dy: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, into dx: UnsafeMutablePointer<Float>, accumulate: Bool
  ) {
    let from = Map(h: shape.height, w: shape.width, c: shape.k)
    let to = Map(h: shape.h, w: shape.w, c: shape.c)
    func run<S: WinogradScheme>(_: S.Type) {
      multiply(
        S.self, S.TurnedInput.self, S.TurnedOutput.self, dy, from, advance: Winograd.tile, margin: S.turnedMargin,
        weight,
        turned: true, into: dx, to, accumulate: accumulate)
    }
    if shape.stride == 1 { run(WinogradStride1.self) } else { run(WinogradStride2.self) }
  }

  /// dw += the weight's gradient.
  func weightGradient(_ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, addingTo dw: UnsafeMutablePointer<Float>) {
    if shape.stride == 1 {
      correlate(WinogradStride1.self, dy, x, addingTo: dw)
    } else {
      correlate(WinogradStride2.self, dy, x, addingTo: dw)
    }
  }

  // MARK: The block loops

  /// A thread takes a block of tiles through all three steps. Where there are too few blocks for that, the threads share
  /// each step of a wave of blocks out; and where there are few tiles, panels of filters. All give the same bits.
  private func multiply<S: WinogradScheme, Input: LineTransform, Output: LineTransform>(
    _: S.Type, _: Input.Type, _: Output.Type, _ x: UnsafePointer<Float>, _ from: Map, advance: Int, margin: Int,
    _ weight: UnsafePointer<Float>, turned: Bool, into y: UnsafeMutablePointer<Float>, _ to: Map, accumulate: Bool
  ) {
    let threads = context.team.count
    context.scratch { arena in
      let bench = Workbench(context, arena, products: Input.outputs, block: mostTiles, from.c, to.c)
      let maker = WinogradWeightMaker(context, arena, weight, from.c, to.c, turned: turned)
      func gather(_ some: Range<Int>, _ slot: Int, _ at: Int, _ thread: Int) {
        transform(
          S.self, Input.self, x, from, advance, margin, some, into: bench.v(slot, 0) + at * from.c, bench.vStep, bench,
          thread)
      }
      func scatter(_ some: Range<Int>, _ slot: Int, _ at: Int, _ thread: Int) {
        for tile in some {
          let (image, line, column) = tiles.place(of: tile)
          let top = line * Output.outputs
          let left = column * Output.outputs
          Winograd.scatter(
            S.self, Output.self, tile: tiles.extent(line, column),
            bench.m(slot, 0) + (at + tile - some.lowerBound) * to.c, step: bench.mStep, channels: to.c,
            into: y + ((image * to.h + top) * to.w + left) * to.c, line: to.w * to.c,
            height: min(Output.outputs, to.h - top), width: min(Output.outputs, to.w - left), accumulate: accumulate,
            bench.work(thread))
        }
      }
      if areFew(atMost: 64) && to.c % Panels.width == 0,
        let panels = WinogradPanels(context, arena, orNilAbove: from.c * to.c)
      {
        runSlices(of: 0..<1, gather)
        context.run(to.c / Panels.width) { index, thread in
          let column = index * Panels.width
          let u = panels[thread]
          for top in stride(from: 0, to: from.c, by: Panels.depth) {
            let rows = min(Panels.depth, from.c - top)
            maker.makePanel(S.Kernel.self, top..<top + rows, column, into: u, step: panels.step, thread)
            for weight in 0..<Winograd.allWeights {
              forEachProduct(S.self, of: weight, block(0)) { product, at, count in
                multiplyByPanel(
                  count, rows, bench.v(0, product) + (at * from.c + top), lda: from.c, u + weight * panels.step,
                  into: bench.m(0, product) + (at * to.c + column), ldc: to.c, accumulate: top > 0)
              }
            }
          }
        }
        runSlices(of: 0..<1, scatter)
        return
      }
      let u = maker.make(S.Kernel.self, arena)
      func multiply(_ index: Int, _ slot: Int, _ weight: Int) {
        forEachProduct(S.self, of: weight, block(index)) { product, at, count in
          u[weight].multiply(count, bench.v(slot, product) + at * from.c, into: bench.m(slot, product) + at * to.c)
        }
      }
      if blocks >= 4 * threads {
        context.run(blocks) { index, thread in
          gather(block(index), thread, 0, thread)
          for weight in 0..<Winograd.allWeights { multiply(index, thread, weight) }
          scatter(block(index), thread, 0, thread)
        }
        return
      }
      for first in stride(from: 0, to: blocks, by: threads) {
        let wave = first..<min(first + threads, blocks)
        runSlices(of: wave, gather)
        context.run(Winograd.allWeights) { weight, _ in for index in wave { multiply(index, index - first, weight) } }
        runSlices(of: wave, scatter)
      }
    }
  }

  /// A thread takes the blocks of a partial sum, each through both steps. Where there are too few sums for that, the
  /// threads share each step of a wave of blocks out: first the transforms, then the 36 weights, each of which sums over
  /// the wave's blocks in order.
  private func correlate<S: WinogradScheme>(
    _: S.Type, _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, addingTo dw: UnsafeMutablePointer<Float>
  ) {
    let (c, k) = (shape.c, shape.k)
    let count = c * k
    let uStep = Winograd.step(count)
    let threads = context.team.count
    let input = Map(h: shape.h, w: shape.w, c: c)
    let output = Map(h: shape.height, w: shape.width, c: k)
    context.scratch { arena in
      let bench = Workbench(context, arena, products: S.Input.outputs, block: mostTiles, c, k)
      func gather(_ some: Range<Int>, _ slot: Int, _ at: Int, _ thread: Int) {
        transform(
          S.self, S.Input.self, x, input, S.advance, S.margin, some, into: bench.v(slot, 0) + at * c, bench.vStep,
          bench, thread)
        transform(
          S.self, S.Cotangent.self, dy, output, Winograd.tile, 0, some, into: bench.m(slot, 0) + at * k, bench.mStep,
          bench,
          thread)
      }
      if areFew(atMost: 32) && k % Panels.width == 0, let panels = WinogradPanels(context, arena, orNilAbove: c * k) {
        runSlices(of: 0..<1, gather)
        context.run(k / Panels.width) { index, thread in
          let column = index * Panels.width
          let du = panels[thread]
          for top in stride(from: 0, to: c, by: Panels.depth) {
            let rows = min(Panels.depth, c - top)
            for weight in 0..<Winograd.allWeights {
              let du = du + weight * panels.step
              var accumulate = false
              forEachProduct(S.self, of: weight, block(0)) { product, at, count in
                multiplyTransposedByPanel(
                  rows, count, bench.v(0, product) + (at * c + top), lda: c, bench.m(0, product) + (at * k + column),
                  ldb: k,
                  into: du, ldc: Panels.width, accumulate: accumulate)
                accumulate = true
              }
              if !accumulate { memset(du, 0, rows * Panels.width * 4) }
            }
            for row in 0..<rows {
              Winograd.addWeightGradient(
                S.KernelGradient.self, du + row * Panels.width, sums: 1, step: panels.step, 0..<Panels.width,
                count: count,
                to: dw + ((top + row) * k + column), bench.work(thread))
            }
          }
        }
        return
      }
      let du = arena.array(of: Float.self, count: sums * Winograd.allWeights * uStep).baseAddress!
      let work = arena.array(of: Float.self, count: threads * transposedWork).baseAddress!
      func multiply(_ index: Int, _ slot: Int, _ weight: Int, _ sum: Int, _ thread: Int) {
        let du = du + (sum * Winograd.allWeights + weight) * uStep
        let before = block(blocks(of: sum).lowerBound).lowerBound
        var accumulate = false
        forEachProduct(S.self, of: weight, before..<block(index).lowerBound) { _, _, _ in accumulate = true }
        forEachProduct(S.self, of: weight, block(index)) { product, at, count in
          multiplyTransposed(
            c, k, count, bench.v(slot, product) + at * c, lda: c, bench.m(slot, product) + at * k, ldb: k, into: du,
            ldc: k, accumulate: accumulate, work: work + thread * transposedWork)
          accumulate = true
        }
        // A sum of short tiles alone has nothing for some weights.
        if !accumulate && index + 1 == blocks(of: sum).upperBound { memset(du, 0, count * 4) }
      }
      if sums >= 4 * threads || threads == 1 {
        context.run(sums) { sum, thread in
          for index in blocks(of: sum) {
            gather(block(index), thread, 0, thread)
            for weight in 0..<Winograd.allWeights { multiply(index, thread, weight, sum, thread) }
          }
        }
      } else {
        for sum in 0..<sums {
          let some = blocks(of: sum)
          for first in stride(from: some.lowerBound, to: some.upperBound, by: threads) {
            let wave = first..<min(first + threads, some.upperBound)
            runSlices(of: wave, gather)
            context.run(Winograd.allWeights) { weight, thread in
              for index in wave { multiply(index, index - first, weight, sum, thread) }
            }
          }
        }
      }
      let part = 1 << 12
      context.run(pieces(count, of: part)) { index, thread in
        let range = piece(index, of: part, in: 0..<count)
        Winograd.addWeightGradient(
          S.KernelGradient.self, du, sums: sums, step: uStep, range, count: count, to: dw, bench.work(thread))
      }
    }
  }

  private func transform<S: WinogradScheme, T: LineTransform>(
    _: S.Type, _: T.Type, _ x: UnsafePointer<Float>, _ map: Map, _ advance: Int, _ margin: Int, _ some: Range<Int>,
    into v: UnsafeMutablePointer<Float>, _ step: Int, _ bench: Workbench, _ thread: Int
  ) {
    /// Where a tile's patch is: its lines, and the column at its left.
    func locate(_ tile: Int, _ lines: UnsafeMutablePointer<UnsafePointer<Float>>) {
      let (image, line, column) = tiles.place(of: tile)
      let top = line &* advance &- margin
      let left = column &* advance &- margin
      for i in 0..<T.inputs {
        let y = top &+ i
        lines[i] = y < 0 || y >= map.h ? bench.zeros : x + ((image &* map.h &+ y) &* map.w &+ left) &* map.c
      }
    }
    // What later patches are made of is asked for meanwhile: neither their lines nor the next image's follow these.
    let ahead = 2
    for tile in some.prefix(ahead) { locate(tile, bench.lines(thread, tile)) }
    for tile in some {
      let later = min(tile + ahead, some.upperBound - 1)
      locate(later, bench.lines(thread, later))
      let (_, line, column) = tiles.place(of: tile)
      let left = column * advance - margin
      Winograd.gather(
        S.self, T.self, tile: tiles.extent(line, column), bench.lines(thread, tile), ahead: bench.lines(thread, later),
        columns: max(0, -left)..<min(T.inputs, map.w - left), channels: map.c,
        into: v + (tile - some.lowerBound) * map.c, step: step, bench.work(thread))
    }
  }

  // MARK: Blocks of tiles

  /// Tiles of a block at most: both transforms of it take a megabyte, the L2 cache, as far as the weights, which every
  /// block reads anew, allow: more than 4.5 MiB of them are worth larger blocks. A number that the GEMM's strips
  /// of six divide.
  private var limit: Int {
    let least = shape.c * shape.k > 1 << 15 ? 144 : 48
    return max(least, (1 << 18) / ((shape.stride == 1 ? 36 : 81) * (shape.c + shape.k)) / 6 * 6)
  }

  /// Whether tiles are so few that transformed weights, or their gradient, had better not travel to memory and back: each
  /// panel of the 36 matrices is made, and used up, in the cache, and the tiles are read again for each. A ResNet-18's step
  /// at 32 px takes three quarters of the time with 4 images, where the last stage has 8 tiles of 512 channels, and nine
  /// tenths with 16. Beyond 64 tiles, of the gradient 32, reading them so often costs more.
  private func areFew(atMost most: Int) -> Bool { blocks == 1 && tiles.count <= most }

  /// What memory is for: no more for fewer images, which the even blocks below may take.
  private var mostTiles: Int { min(limit, pieces(tiles.count, of: 6) * 6) }

  /// Tiles of a block: as even as can be.
  private var blockTiles: Int { pieces(pieces(tiles.count, of: pieces(tiles.count, of: limit)), of: 6) * 6 }

  private var blocks: Int { pieces(tiles.count, of: blockTiles) }

  private func block(_ index: Int) -> Range<Int> { piece(index, of: blockTiles, in: 0..<tiles.count) }

  /// Partial sums of the weight's gradient, so that a thread keeps a block to itself: what one has transformed, another
  /// would have to read from its cache. Each takes four times the weight's memory, for which 512 tiles are worth it, and
  /// fewer than eight sums could not be shared out.
  private var sums: Int {
    let most = tiles.count / 512
    return most < 8 ? 1 : min(16, most)
  }

  private func blocks(of sum: Int) -> Range<Int> { blocks * sum / sums..<blocks * (sum + 1) / sums }

  /// Runs `body` for slices of the wave's blocks; `at` is a slice's first tile within its block, the wave's `slot`.
  private func runSlices(
    of wave: Range<Int>, _ body: (_ slice: Range<Int>, _ slot: Int, _ at: Int, _ thread: Int) -> Void
  ) {
    let size = 16
    let slices = pieces(blockTiles, of: size)
    context.run(wave.count * slices) { index, thread in
      let slot = index / slices
      let some = block(wave.lowerBound + slot)
      let at = index % slices * size
      if at < some.count { body(piece(index % slices, of: size, in: some), slot, at, thread) }
    }
  }

  /// The products of a tile that share a transformed weight, and which of a block's tiles, from `at`, take part in each.
  @inline(__always)
  private func forEachProduct<S: WinogradScheme>(
    _: S.Type, of weight: Int, _ block: Range<Int>, _ body: (_ product: Int, _ at: Int, _ count: Int) -> Void
  ) {
    for i in S.products(of: weight / Winograd.weights) {
      for j in S.products(of: weight % Winograd.weights) {
        let some = tiles.takingPart(S.self, i, j).clamped(to: block)
        if !some.isEmpty { body(i * S.Input.outputs + j, some.lowerBound - block.lowerBound, some.count) }
      }
    }
  }

  // MARK: Memory

  /// Height, width and channels of a map.
  private struct Map { let h: Int, w: Int, c: Int }

  /// Memory of the block loops: V and M (or E) of one block for each thread, and what transforms need beside them.
  private struct Workbench {
    /// Floats from one product to the next.
    let vStep: Int, mStep: Int
    /// To read beyond a map's border.
    let zeros: UnsafePointer<Float>
    private let products: Int
    private let buffers: UnsafeMutablePointer<Float>
    private let vectors: WinogradVectors
    private let patches: UnsafeMutablePointer<UnsafePointer<Float>>

    /// - products: along one direction.
    init(_ context: Context, _ arena: Arena, products: Int, block: Int, _ c: Int, _ k: Int) {
      vStep = Winograd.step(block * c)
      mStep = Winograd.step(block * k)
      self.products = products * products
      let threads = context.team.count
      let count = 9 * max(c, k)
      buffers = arena.array(of: Float.self, count: threads * self.products * (vStep + mStep)).baseAddress!
      vectors = WinogradVectors(context, arena)
      patches = arena.array(of: UnsafePointer<Float>.self, count: threads * 3 * 16).baseAddress!
      let zeros = arena.array(of: Float.self, count: count).baseAddress!
      if !context.isDry { memset(zeros, 0, count * 4) }
      self.zeros = UnsafePointer(zeros)
    }

    func v(_ slot: Int, _ product: Int) -> UnsafeMutablePointer<Float> {
      buffers + (slot * products * (vStep + mStep) + product * vStep)
    }
    func m(_ slot: Int, _ product: Int) -> UnsafeMutablePointer<Float> {
      buffers + (slot * products * (vStep + mStep) + products * vStep + product * mStep)
    }
    func work(_ thread: Int) -> UnsafeMutablePointer<Lanes> { vectors[thread] }
    /// Where the lines of a tile's patch are, of three tiles that follow one another.
    func lines(_ thread: Int, _ tile: Int) -> UnsafeMutablePointer<UnsafePointer<Float>> {
      patches + (thread * 3 + tile % 3) * 16
    }
  }
}
