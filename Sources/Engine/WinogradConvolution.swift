import Foundation

/// 3×3 convolution with stride 1 and padding 1 by Winograd's filtering: 36 GEMMs, one for each point, over blocks of
/// tiles whose transforms stay in the L2 cache.
///
///     forward          V = Bᵀ x B,  M[p] = V[p] · U[p],  y = Aᵀ M A       V (tiles, C), U (C, K), M (tiles, K)
///     data gradient    the same from dy with the kernel turned around
///     weight gradient  E = A dy Aᵀ,  dU[p] += V[p]ᵀ · E[p],  dW += Gᵀ dU G
///
/// Sums over filters and channels run inside a GEMM; only the weight gradient sums over blocks, in their order. Blocks
/// are sized by shapes alone, so any number of threads gives the same bits.
struct WinogradConvolution {
  let shape: ConvolutionShape
  let context: Context

  init(_ shape: ConvolutionShape, _ context: Context) { (self.shape, self.context) = (shape, context) }

  /// Whether this way exists for the shape.
  static func exists(_ shape: ConvolutionShape) -> Bool {
    shape.kernel == 3 && shape.stride == 1 && shape.padding == 1
      && shape.c % Winograd.lanes == 0 && shape.k % Winograd.lanes == 0
  }

  /// Whether it is also faster. In products for each pair of a channel and a filter: 9 an output against 36 a tile,
  /// with a fifth for the transforms of tiles, and as much as 800 for making and reading a weight that is four times as
  /// large (measured with 512 channels, where 8 tiles break even).
  var pays: Bool { 9 * shape.rows > 43 * tiles + 800 }

  /// Tiles in one column and one line of an image, and in all.
  private var down: Int { pieces(shape.h, of: Winograd.tile) }
  private var across: Int { pieces(shape.w, of: Winograd.tile) }
  private var tiles: Int { shape.n * down * across }

  /// Tiles of a block: both transforms of it take a megabyte, the L2 cache. Fewer than 128 would make the GEMMs thin;
  /// from 64 channels on they pay for a block that is larger than the cache.
  private var blockTiles: Int { min(tiles, max(128, (1 << 18) / (Winograd.points * (shape.c + shape.k)))) }

  /// y ← x · U from the weight (3, 3, C, K); `turned`, dx from dy. A thread takes a block through all three steps. Where
  /// there are too few blocks for that, the threads share each step of a wave of blocks out.
  func forward(
    _ x: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>,
    turned: Bool = false, accumulate: Bool = false
  ) {
    let (c, k) = turned ? (shape.k, shape.c) : (shape.c, shape.k), threads = context.team.count
    context.scratch { arena in
      let u = transformWeight(weight, c, k, turned, arena)
      let bench = Workbench(context, arena, block: blockTiles, c, k)
      if blocks >= 4 * threads {
        context.run(blocks) { index, thread in
          let some = block(index)
          transformInput(x, c, some, into: bench.v(thread, 0), bench, thread)
          for p in 0..<Winograd.points { u[p].multiply(some.count, bench.v(thread, p), into: bench.m(thread, p)) }
          transformOutput(bench.m(thread, 0), k, some, into: y, accumulate, bench, thread)
        }
        return
      }
      for first in stride(from: 0, to: blocks, by: threads) {
        let wave = first..<min(first + threads, blocks)
        runSlices(of: wave) { slice, slot, at, thread in
          transformInput(x, c, slice, into: bench.v(slot, 0) + at * c, bench, thread)
        }
        context.run(Winograd.points) { p, _ in
          for index in wave {
            u[p].multiply(block(index).count, bench.v(index - first, p), into: bench.m(index - first, p))
          }
        }
        runSlices(of: wave) { slice, slot, at, thread in
          transformOutput(bench.m(slot, 0) + at * k, k, slice, into: y, accumulate, bench, thread)
        }
      }
    }
  }

  /// U of all points, in panels. It takes four times the weight's memory, so it is made for each use: keeping it would
  /// double the memory of a small batch's step and save a hundredth of its time.
  private func transformWeight(
    _ weight: UnsafePointer<Float>, _ c: Int, _ k: Int, _ turned: Bool, _ arena: Arena
  ) -> Points {
    let u = Points(arena, c, k)
    context.scratch { arena in
      var weight = weight
      if turned {
        // The kernel turned around, from filters to channels.
        let other = arena.array(of: Float.self, count: 9 * c * k).baseAddress!, from = weight
        context.run(9) { tap, _ in transpose(from + (8 - tap) * c * k, k, c, into: other + tap * c * k) }
        weight = UnsafePointer(other)
      }
      let vectors = Vectors(context, arena), part = max(1, (1 << 12) / k)
      context.run(pieces(c, of: part)) { index, thread in
        for row in piece(index, of: part, in: 0..<c) {
          for column in stride(from: 0, to: k, by: Winograd.lanes) {
            Winograd.transformWeight(
              weight + (row &* k &+ column), tap: c &* k, into: u[0].data + u[0].place(row, column), step: u.step,
              vectors[thread])
          }
        }
      }
    }
    return u
  }

  /// dw += the weight's gradient, in waves of one block a thread: the threads share the transforms out, then the 36
  /// points, each of which sums over the wave's blocks in order.
  func weightGradient(_ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, addingTo dw: UnsafeMutablePointer<Float>) {
    let (c, k) = (shape.c, shape.k), count = c * k, uStep = Self.step(count), threads = context.team.count
    context.scratch { arena in
      let du = arena.array(of: Float.self, count: Winograd.points * uStep).baseAddress!
      let bench = Workbench(context, arena, block: blockTiles, c, k)
      let work = arena.array(of: Float.self, count: threads * transposedWork).baseAddress!
      for first in stride(from: 0, to: blocks, by: threads) {
        let wave = first..<min(first + threads, blocks)
        runSlices(of: wave) { slice, slot, at, thread in
          transformInput(x, c, slice, into: bench.v(slot, 0) + at * c, bench, thread)
          transformCotangent(dy, k, slice, into: bench.m(slot, 0) + at * k, bench, thread)
        }
        context.run(Winograd.points) { p, thread in
          for index in wave {
            multiplyTransposed(
              c, k, block(index).count, bench.v(index - first, p), lda: c, bench.m(index - first, p), ldb: k,
              into: du + p * uStep, ldc: k, accumulate: index > 0, work: work + thread * transposedWork)
          }
        }
      }
      let part = 1 << 12
      context.run(pieces(count, of: part)) { index, thread in
        let range = piece(index, of: part, in: 0..<count)
        Winograd.addWeightGradient(du, step: uStep, range, count: count, to: dw, bench.work(thread))
      }
    }
  }

  /// Floats from one point's matrix to the next: a cache line more than the matrix, since transforms write all 36 at
  /// once, which at a multiple of 4096 bytes would fight for one set of the L1 cache.
  static func step(_ floats: Int) -> Int { floats + 16 }

  /// The 36 matrices U (C, K).
  private struct Points {
    let step: Int
    private let first: Panels

    init(_ arena: Arena, _ c: Int, _ k: Int) {
      step = WinogradConvolution.step(Panels.floats(c, k))
      first = Panels(arena.array(of: Float.self, count: Winograd.points * step).baseAddress!, rows: c, columns: k)
    }

    subscript(_ point: Int) -> Panels { Panels(first.data + point * step, rows: first.rows, columns: first.columns) }
  }

  /// What a transform keeps between columns and rows, for each thread.
  private struct Vectors {
    private let first: UnsafeMutablePointer<Winograd.Lanes>

    init(_ context: Context, _ arena: Arena) {
      first = arena.array(of: Winograd.Lanes.self, count: context.team.count * 2 * Winograd.points).baseAddress!
    }

    subscript(_ thread: Int) -> UnsafeMutablePointer<Winograd.Lanes> { first + thread * 2 * Winograd.points }
  }

  /// Memory of the block loops: V and M (or E) of one block for each thread, and what transforms need beside them.
  private struct Workbench {
    /// Floats from one point to the next.
    let vStep: Int, mStep: Int
    /// To read beyond an image's border.
    let zeros: UnsafePointer<Float>
    private let buffers: UnsafeMutablePointer<Float>
    private let vectors: Vectors

    init(_ context: Context, _ arena: Arena, block: Int, _ c: Int, _ k: Int) {
      (vStep, mStep) = (WinogradConvolution.step(block * c), WinogradConvolution.step(block * k))
      let threads = context.team.count, count = Winograd.patch * max(c, k)
      buffers = arena.array(of: Float.self, count: threads * Winograd.points * (vStep + mStep)).baseAddress!
      vectors = Vectors(context, arena)
      let zeros = arena.array(of: Float.self, count: count).baseAddress!
      if !context.isDry { memset(zeros, 0, count * 4) }
      self.zeros = UnsafePointer(zeros)
    }

    func v(_ slot: Int, _ point: Int) -> UnsafeMutablePointer<Float> {
      buffers + (slot * Winograd.points * (vStep + mStep) + point * vStep)
    }
    func m(_ slot: Int, _ point: Int) -> UnsafeMutablePointer<Float> {
      buffers + (slot * Winograd.points * (vStep + mStep) + Winograd.points * vStep + point * mStep)
    }
    func work(_ thread: Int) -> UnsafeMutablePointer<Winograd.Lanes> { vectors[thread] }
  }
}

// MARK: Blocks of tiles

extension WinogradConvolution {
  private var blocks: Int { pieces(tiles, of: blockTiles) }

  private func block(_ index: Int) -> Range<Int> { piece(index, of: blockTiles, in: 0..<tiles) }

  /// Runs `body` for slices of the wave's blocks; `at` is a slice's first tile within its block, the wave's `slot`.
  private func runSlices(
    of wave: Range<Int>, _ body: (_ slice: Range<Int>, _ slot: Int, _ at: Int, _ thread: Int) -> Void
  ) {
    let size = 16, slices = pieces(blockTiles, of: size)
    context.run(wave.count * slices) { index, thread in
      let slot = index / slices, some = block(wave.lowerBound + slot), at = index % slices * size
      if at < some.count { body(piece(index % slices, of: size, in: some), slot, at, thread) }
    }
  }

  private func forEachTile(_ some: Range<Int>, _ body: (_ slot: Int, _ image: Int, _ top: Int, _ left: Int) -> Void) {
    for tile in some {
      let (line, column) = (tile / across, tile % across)
      body(tile - some.lowerBound, line / down, line % down * Winograd.tile, column * Winograd.tile)
    }
  }

  private func transformInput(
    _ x: UnsafePointer<Float>, _ c: Int, _ some: Range<Int>, into v: UnsafeMutablePointer<Float>,
    _ bench: Workbench, _ thread: Int
  ) {
    let (h, w) = (shape.h, shape.w)
    forEachTile(some) { slot, image, top, left in
      func row(_ i: Int) -> UnsafePointer<Float> {
        let y = top + i - 1
        return y < 0 || y >= h ? bench.zeros : x + ((image * h + y) * w + left - 1) * c
      }
      Winograd.transformInput(
        (row(0), row(1), row(2), row(3), row(4), row(5)),
        columns: (left == 0 ? 1 : 0)..<min(Winograd.patch, w + 1 - left), channels: c,
        into: v + slot * c, step: bench.vStep, bench.work(thread))
    }
  }

  private func transformCotangent(
    _ dy: UnsafePointer<Float>, _ k: Int, _ some: Range<Int>, into e: UnsafeMutablePointer<Float>,
    _ bench: Workbench, _ thread: Int
  ) {
    let (h, w) = (shape.h, shape.w)
    forEachTile(some) { slot, image, top, left in
      func row(_ i: Int) -> UnsafePointer<Float> {
        top + i >= h ? bench.zeros : dy + ((image * h + top + i) * w + left) * k
      }
      Winograd.transformCotangent(
        (row(0), row(1), row(2), row(3)), columns: 0..<min(Winograd.tile, w - left), channels: k, into: e + slot * k,
        step: bench.mStep, bench.work(thread))
    }
  }

  private func transformOutput(
    _ m: UnsafePointer<Float>, _ k: Int, _ some: Range<Int>, into y: UnsafeMutablePointer<Float>, _ accumulate: Bool,
    _ bench: Workbench, _ thread: Int
  ) {
    let (h, w) = (shape.h, shape.w)
    forEachTile(some) { slot, image, top, left in
      Winograd.transformOutput(
        m + slot * k, step: bench.mStep, channels: k, into: y + ((image * h + top) * w + left) * k, line: w * k,
        height: min(Winograd.tile, h - top), width: min(Winograd.tile, w - left), accumulate: accumulate,
        bench.work(thread))
    }
  }
}
