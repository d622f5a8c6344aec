import Foundation

/// dW += x correlated with dy.
///
/// Three strategies give the same bits: few tiles (threads share panels of filters out), a partial sum per thread, and
/// waves of blocks (threads share each step of a wave out; a weight's products are summed over the wave's blocks in
/// order).
struct WinogradWeightGradient<S: WinogradScheme> {
  let context: Context
  let blocks: WinogradBlocks
  /// x, and dy.
  let patches: WinogradPatches, cotangents: WinogradPatches
  /// (3, 3, C, K), added to.
  let dw: UnsafeMutablePointer<Float>

  private var c: Int { patches.map.c }
  private var k: Int { cotangents.map.c }
  /// Elements of a weight's matrix.
  private var count: Int { c * k }

  func run() {
    context.scratch { arena in
      let bench = WinogradWorkbench(context, arena, products: S.Input.outputs, capacity: blocks.capacity, c: c, k: k)
      // Beyond 32 tiles, reading them again for each panel costs more than it saves.
      if blocks.areFew(atMost: 32), k % Panels.width == 0,
        let panels = WinogradPanels(context, arena, orNilAbove: count)
      {
        runFewTiles(panels, bench)
        return
      }
      let sums = Sums(context, arena, blocks, count: count)
      if blocks.sums >= 4 * context.team.count || context.team.count == 1 {
        runSumPerThread(sums, bench)
      } else {
        runWaves(sums, bench)
      }
      add(sums, bench)
    }
  }

  /// The partial sums dU of all 36 weights.
  private struct Sums {
    /// Floats from one matrix to the next.
    let step: Int
    let du: UnsafeMutablePointer<Float>
    private let work: UnsafeMutablePointer<Float>

    init(_ context: Context, _ arena: Arena, _ blocks: WinogradBlocks, count: Int) {
      step = Winograd.step(count)
      du = arena.array(of: Float.self, count: blocks.sums * Winograd.allWeights * step).baseAddress!
      work = arena.array(of: Float.self, count: context.team.count * transposedWork).baseAddress!
    }

    func matrix(_ sum: Int, _ weight: Int) -> UnsafeMutablePointer<Float> {
      du + (sum * Winograd.allWeights + weight) * step
    }
    func work(_ thread: Int) -> UnsafeMutablePointer<Float> { work + thread * transposedWork }
  }

  // MARK: Strategies

  /// One block. A thread makes a panel of each of the 36 gradients and adds it to dW at once.
  private func runFewTiles(_ panels: WinogradPanels, _ bench: WinogradWorkbench) {
    blocks.runSlices(of: 0..<1, context) { slice, thread in gather(slice, bench, thread) }
    context.run(k / Panels.width) { index, thread in
      let column = index * Panels.width
      let du = panels[thread]
      for top in stride(from: 0, to: c, by: Panels.depth) {
        let rows = min(Panels.depth, c - top)
        for weight in 0..<Winograd.allWeights {
          multiply(weight: weight, channels: top..<top + rows, column: column, into: du + weight * panels.step, bench)
        }
        for row in 0..<rows {
          Winograd.addWeightGradient(
            S.KernelGradient.self, du + row * Panels.width, sums: 1, step: panels.step, 0..<Panels.width,
            count: count, to: dw + ((top + row) * k + column), bench.work(thread))
        }
      }
    }
  }

  /// Many partial sums. A thread takes the blocks of a sum, each through both steps.
  private func runSumPerThread(_ sums: Sums, _ bench: WinogradWorkbench) {
    context.run(blocks.sums) { sum, thread in
      for index in blocks.blocks(of: sum) {
        gather(WinogradSlice(tiles: blocks.block(index), slot: thread, at: 0), bench, thread)
        for weight in 0..<Winograd.allWeights {
          multiply(weight: weight, block: index, slot: thread, sum: sum, sums, bench, thread)
        }
      }
    }
  }

  /// As many blocks at a time as there are threads, which share each of the two steps out.
  private func runWaves(_ sums: Sums, _ bench: WinogradWorkbench) {
    let threads = context.team.count
    for sum in 0..<blocks.sums {
      let some = blocks.blocks(of: sum)
      for first in stride(from: some.lowerBound, to: some.upperBound, by: threads) {
        let wave = first..<min(first + threads, some.upperBound)
        blocks.runSlices(of: wave, context) { slice, thread in gather(slice, bench, thread) }
        context.run(Winograd.allWeights) { weight, thread in
          for index in wave {
            multiply(weight: weight, block: index, slot: index - first, sum: sum, sums, bench, thread)
          }
        }
      }
    }
  }

  // MARK: Steps

  /// V = T x Tᵀ, E = Sᵀ dy S
  private func gather(_ slice: WinogradSlice, _ bench: WinogradWorkbench, _ thread: Int) {
    bench.transform(
      S.self, S.Input.self, patches, blocks.tiles, slice.tiles, into: bench.v(slice.slot, 0) + slice.at * c,
      step: bench.vStep, thread: thread)
    bench.transform(
      S.self, S.Cotangent.self, cotangents, blocks.tiles, slice.tiles, into: bench.m(slice.slot, 0) + slice.at * k,
      step: bench.mStep, thread: thread)
  }

  /// dU[p] += V[p]ᵀ · E[p] over a block; the first of a sum's blocks overwrites.
  private func multiply(
    weight: Int, block index: Int, slot: Int, sum: Int, _ sums: Sums, _ bench: WinogradWorkbench, _ thread: Int
  ) {
    let du = sums.matrix(sum, weight)
    let before = blocks.block(blocks.blocks(of: sum).lowerBound).lowerBound
    var accumulate = false
    blocks.forEachProduct(S.self, of: weight, before..<blocks.block(index).lowerBound) { _, _, _ in accumulate = true }
    blocks.forEachProduct(S.self, of: weight, blocks.block(index)) { product, at, count in
      multiplyTransposed(
        c, k, count, bench.v(slot, product) + at * c, lda: c, bench.m(slot, product) + at * k, ldb: k, into: du,
        ldc: k, accumulate: accumulate, work: sums.work(thread))
      accumulate = true
    }
    // Where all tiles of a sum are short, some weights have no product.
    let isLast = index + 1 == blocks.blocks(of: sum).upperBound
    if !accumulate && isLast { memset(du, 0, count * MemoryLayout<Float>.stride) }
  }

  /// A panel of dU[p] = V[p]ᵀ · E[p]: some channels, filters from `column`.
  private func multiply(
    weight: Int, channels: Range<Int>, column: Int, into du: UnsafeMutablePointer<Float>, _ bench: WinogradWorkbench
  ) {
    var accumulate = false
    blocks.forEachProduct(S.self, of: weight, blocks.block(0)) { product, at, count in
      multiplyTransposedByPanel(
        channels.count, count, bench.v(0, product) + (at * c + channels.lowerBound), lda: c,
        bench.m(0, product) + (at * k + column), ldb: k, into: du, ldc: Panels.width, accumulate: accumulate)
      accumulate = true
    }
    if !accumulate { memset(du, 0, channels.count * Panels.width * MemoryLayout<Float>.stride) }
  }

  /// dW += Kᵀ dU K, summed over the partial sums.
  private func add(_ sums: Sums, _ bench: WinogradWorkbench) {
    let part = 1 << 12
    context.run(pieces(count, of: part)) { index, thread in
      let range = piece(index, of: part, in: 0..<count)
      Winograd.addWeightGradient(
        S.KernelGradient.self, sums.du, sums: blocks.sums, step: sums.step, range, count: count, to: dw,
        bench.work(thread))
    }
  }
}
