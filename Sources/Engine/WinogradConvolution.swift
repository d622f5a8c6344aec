import Foundation

/// 3×3 convolution with stride 1 and padding 1 by Winograd's filtering: 36 GEMMs, one for each point, over blocks of
/// tiles whose transforms stay in the L2 cache.
///
///     forward          V = Bᵀ x B,  M[p] = V[p] · U[p],  y = Aᵀ M A       V (tiles, C), U (C, K), M (tiles, K)
///     data gradient    the same from dy with U[reversed p]ᵀ
///     weight gradient  E = A dy Aᵀ,  dU[p] += V[p]ᵀ · E[p],  dW += Gᵀ dU G
///
/// Sums over filters and channels run inside a GEMM; only the weight gradient sums over blocks, in their order. Blocks
/// are sized by shapes alone, so any number of threads gives the same bits.
struct WinogradConvolution {
  let shape: ConvolutionShape
  let context: Context

  /// Whether this way exists for the shape and is faster.
  static func suits(_ shape: ConvolutionShape) -> Bool {
    shape.kernel == 3 && shape.stride == 1 && shape.padding == 1
      && shape.c % Winograd.lanes == 0 && shape.k % Winograd.lanes == 0
  }

  /// Tiles in one column and one line of an image, and in all.
  private var down: Int { pieces(shape.h, of: Winograd.tile) }
  private var across: Int { pieces(shape.w, of: Winograd.tile) }
  private var tiles: Int { shape.n * down * across }

  /// Tiles of a block: both transforms of it take a megabyte, the L2 cache. Fewer than 128 would make the GEMMs thin;
  /// from 64 channels on they pay for a block that is larger than the cache.
  private var blockTiles: Int { min(tiles, max(128, (1 << 18) / (Winograd.points * (shape.c + shape.k)))) }

  /// y ← x · U; with `transposed`, dx from dy.
  func forward(
    _ x: UnsafePointer<Float>, _ u: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>,
    transposed: Bool = false, accumulate: Bool = false
  ) {
    let (c, k) = transposed ? (shape.k, shape.c) : (shape.c, shape.k)
    let block = blockTiles, vStep = Self.step(block * c), mStep = Self.step(block * k)
    let uStep = Self.step(c * k)
    context.scratch { arena in
      let buffers = arena.array(of: Float.self, count: context.team.count * Winograd.points * (vStep + mStep)).baseAddress!
      let bench = Workbench(context, arena, channels: c)
      let turned = transposed && isNarrow(c, k) ? arena.array(of: Float.self, count: Winograd.points * uStep).baseAddress : nil
      if let turned {
        context.run(Winograd.points) { p, _ in
          transpose(u + Winograd.reversed(p) * uStep, k, c, into: turned + p * uStep)
        }
      }
      context.run(pieces(tiles, of: block)) { index, thread in
        let some = piece(index, of: block, in: 0..<tiles), work = bench.work(thread)
        let v = buffers + thread * Winograd.points * (vStep + mStep), m = v + Winograd.points * vStep
        transformInput(x, c, some, into: v, vStep, bench.zeros, work)
        for p in 0..<Winograd.points {
          if let turned {
            gemm(some.count, k, c, v + p * vStep, lda: c, turned + p * uStep, ldb: k, into: m + p * mStep, ldc: k)
          } else if transposed {
            sgemm(some.count, k, c, v + p * vStep, lda: c, transposed: false, u + Winograd.reversed(p) * uStep, ldb: c,
              transposed: true, into: m + p * mStep, ldc: k)
          } else {
            gemm(some.count, k, c, v + p * vStep, lda: c, u + p * uStep, ldb: k, into: m + p * mStep, ldc: k)
          }
        }
        transformOutput(m, mStep, k, some, into: y, accumulate, work)
      }
    }
  }

  /// dw += the weight's gradient. In waves: the threads transform one block each, then share the 36 points out, each of
  /// which sums over the wave's blocks in order.
  func weightGradient(_ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, addingTo dw: UnsafeMutablePointer<Float>) {
    let (c, k) = (shape.c, shape.k), count = c * k
    let block = blockTiles, vStep = Self.step(block * c), eStep = Self.step(block * k), uStep = Self.step(count)
    context.scratch { arena in
      let du = arena.array(of: Float.self, count: Winograd.points * uStep).baseAddress!
      let wave = context.team.count
      let buffers = arena.array(of: Float.self, count: wave * Winograd.points * (vStep + eStep)).baseAddress!
      let bench = Workbench(context, arena, channels: max(c, k))
      let blocks = pieces(tiles, of: block)
      for first in stride(from: 0, to: blocks, by: wave) {
        let here = first..<min(first + wave, blocks)
        context.run(here.count) { slot, thread in
          let some = piece(first + slot, of: block, in: 0..<tiles), work = bench.work(thread)
          let v = buffers + slot * Winograd.points * (vStep + eStep), e = v + Winograd.points * vStep
          transformInput(x, c, some, into: v, vStep, bench.zeros, work)
          transformCotangent(dy, k, some, into: e, eStep, bench.zeros, work)
        }
        context.run(Winograd.points) { p, _ in
          for slot in 0..<here.count {
            let some = piece(first + slot, of: block, in: 0..<tiles)
            let v = buffers + slot * Winograd.points * (vStep + eStep), e = v + Winograd.points * vStep
            gemm(c, k, some.count, v + p * vStep, lda: c, transposed: true, e + p * eStep, ldb: k,
              into: du + p * uStep, ldc: k, accumulate: first + slot > 0)
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

  /// What transforms need beside their data: 36 vectors a thread, and zeros to read beyond an image's border.
  private struct Workbench {
    let zeros: UnsafePointer<Float>
    private let vectors: UnsafeMutablePointer<Winograd.Lanes>

    init(_ context: Context, _ arena: Arena, channels: Int) {
      let count = Winograd.patch * channels
      let zeros = arena.array(of: Float.self, count: count).baseAddress!
      if !context.isDry { memset(zeros, 0, count * 4) }
      self.zeros = UnsafePointer(zeros)
      vectors = arena.array(of: Winograd.Lanes.self, count: context.team.count * 2 * Winograd.points).baseAddress!
    }

    func work(_ thread: Int) -> UnsafeMutablePointer<Winograd.Lanes> { vectors + thread * 2 * Winograd.points }
  }
}

// MARK: Blocks of tiles

extension WinogradConvolution {
  private func forEachTile(_ some: Range<Int>, _ body: (_ slot: Int, _ image: Int, _ top: Int, _ left: Int) -> Void) {
    for tile in some {
      let (line, column) = (tile / across, tile % across)
      body(tile - some.lowerBound, line / down, line % down * Winograd.tile, column * Winograd.tile)
    }
  }

  private func transformInput(
    _ x: UnsafePointer<Float>, _ c: Int, _ some: Range<Int>, into v: UnsafeMutablePointer<Float>, _ step: Int,
    _ zeros: UnsafePointer<Float>, _ work: UnsafeMutablePointer<Winograd.Lanes>
  ) {
    let (h, w) = (shape.h, shape.w)
    forEachTile(some) { slot, image, top, left in
      func row(_ i: Int) -> UnsafePointer<Float> {
        let y = top + i - 1
        return y < 0 || y >= h ? zeros : x + ((image * h + y) * w + left - 1) * c
      }
      Winograd.transformInput(
        (row(0), row(1), row(2), row(3), row(4), row(5)), columns: (left == 0 ? 1 : 0)..<min(Winograd.patch, w + 1 - left),
        channels: c, into: v + slot * c, step: step, work)
    }
  }

  private func transformCotangent(
    _ dy: UnsafePointer<Float>, _ k: Int, _ some: Range<Int>, into e: UnsafeMutablePointer<Float>, _ step: Int,
    _ zeros: UnsafePointer<Float>, _ work: UnsafeMutablePointer<Winograd.Lanes>
  ) {
    let (h, w) = (shape.h, shape.w)
    forEachTile(some) { slot, image, top, left in
      func row(_ i: Int) -> UnsafePointer<Float> {
        top + i >= h ? zeros : dy + ((image * h + top + i) * w + left) * k
      }
      Winograd.transformCotangent(
        (row(0), row(1), row(2), row(3)), columns: 0..<min(Winograd.tile, w - left), channels: k, into: e + slot * k,
        step: step, work)
    }
  }

  private func transformOutput(
    _ m: UnsafePointer<Float>, _ step: Int, _ k: Int, _ some: Range<Int>, into y: UnsafeMutablePointer<Float>,
    _ accumulate: Bool, _ work: UnsafeMutablePointer<Winograd.Lanes>
  ) {
    let (h, w) = (shape.h, shape.w)
    forEachTile(some) { slot, image, top, left in
      Winograd.transformOutput(
        m + slot * k, step: step, channels: k, into: y + ((image * h + top) * w + left) * k, line: w * k,
        height: min(Winograd.tile, h - top), width: min(Winograd.tile, w - left), accumulate: accumulate, work)
    }
  }
}
