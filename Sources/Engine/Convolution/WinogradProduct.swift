/// y ← x convolved with a weight: the forward pass, or the data gradient with the weight turned.
///
/// Three strategies give the same bits: few tiles (threads share panels of filters out), a block per thread, and waves
/// of blocks (threads share each step of a wave out).
struct WinogradProduct<S: WinogradScheme, Input: LineTransform, Output: LineTransform> {
  let context: Context
  let blocks: WinogradBlocks
  let patches: WinogradPatches
  /// (3, 3, C, K), in the order of the forward pass.
  let weight: UnsafePointer<Float>
  /// Whether the weight is taken from filters to channels, rotated by 180°.
  let turned: Bool
  let y: UnsafeMutablePointer<Float>
  let output: WinogradMap
  /// Whether y is added to or overwritten.
  let accumulate: Bool
  /// Applied to what overwrites y.
  let epilogue: Epilogue?

  /// Channels of x and of y.
  private var c: Int { patches.map.c }
  private var k: Int { output.c }

  func run() {
    context.scratch { arena in
      let bench = WinogradWorkbench(context, arena, products: Input.outputs, capacity: blocks.capacity, c: c, k: k)
      let maker = WinogradWeightMaker(context, arena, weight, c, k, turned: turned)
      // Beyond 64 tiles, reading them again for each panel costs more than it saves.
      if blocks.areFew(atMost: 64), k % Panels.width == 0,
        let panels = WinogradPanels(context, arena, orNilAbove: c * k)
      {
        runFewTiles(panels, maker, bench)
        return
      }
      let u = maker.make(S.Kernel.self, arena)
      if blocks.count >= 4 * context.team.count {
        runBlockPerThread(u, bench)
      } else {
        runWaves(u, bench)
      }
    }
  }

  // MARK: Strategies

  /// One block. A thread makes a panel of each of the 36 weights and multiplies all tiles by it.
  private func runFewTiles(_ panels: WinogradPanels, _ maker: WinogradWeightMaker, _ bench: WinogradWorkbench) {
    blocks.runSlices(of: 0..<1, context) { slice, thread in gather(slice, bench, thread) }
    context.run(k / Panels.width) { index, thread in
      let column = index * Panels.width
      let u = panels[thread]
      for top in stride(from: 0, to: c, by: Panels.depth) {
        let rows = min(Panels.depth, c - top)
        maker.makePanel(S.Kernel.self, top..<top + rows, column, into: u, step: panels.step, thread)
        for weight in 0..<Winograd.allWeights {
          blocks.forEachProduct(S.self, of: weight, blocks.block(0)) { product, at, count in
            multiplyByPanel(
              count, rows, bench.v(0, product) + (at * c + top), lda: c, u + weight * panels.step,
              into: bench.m(0, product) + (at * k + column), ldc: k, accumulate: top > 0)
          }
        }
      }
    }
    blocks.runSlices(of: 0..<1, context) { slice, thread in scatter(slice, bench, thread) }
  }

  /// Many blocks. A thread takes a block through all three steps.
  private func runBlockPerThread(_ u: WinogradWeights, _ bench: WinogradWorkbench) {
    context.run(blocks.count) { index, thread in
      let slice = WinogradSlice(tiles: blocks.block(index), slot: thread, at: 0)
      gather(slice, bench, thread)
      for weight in 0..<Winograd.allWeights { multiply(index, slot: thread, by: weight, u, bench) }
      scatter(slice, bench, thread)
    }
  }

  /// As many blocks at a time as there are threads, which share each of the three steps out.
  private func runWaves(_ u: WinogradWeights, _ bench: WinogradWorkbench) {
    let threads = context.team.count
    for first in stride(from: 0, to: blocks.count, by: threads) {
      let wave = first..<min(first + threads, blocks.count)
      blocks.runSlices(of: wave, context) { slice, thread in gather(slice, bench, thread) }
      context.run(Winograd.allWeights) { weight, _ in
        for index in wave { multiply(index, slot: index - first, by: weight, u, bench) }
      }
      blocks.runSlices(of: wave, context) { slice, thread in scatter(slice, bench, thread) }
    }
  }

  // MARK: Steps

  /// V = T x Tᵀ
  private func gather(_ slice: WinogradSlice, _ bench: WinogradWorkbench, _ thread: Int) {
    bench.transform(
      S.self, Input.self, patches, blocks.tiles, slice.tiles, into: bench.v(slice.slot, 0) + slice.at * c,
      step: bench.vStep, thread: thread)
  }

  /// M[p] = V[p] · U[p]
  private func multiply(_ index: Int, slot: Int, by weight: Int, _ u: WinogradWeights, _ bench: WinogradWorkbench) {
    blocks.forEachProduct(S.self, of: weight, blocks.block(index)) { product, at, count in
      u[weight].multiply(count, bench.v(slot, product) + at * c, into: bench.m(slot, product) + at * k)
    }
  }

  /// y = S M Sᵀ
  private func scatter(_ slice: WinogradSlice, _ bench: WinogradWorkbench, _ thread: Int) {
    if let epilogue {
      scatter(slice, bench, thread) { value, place, channel in epilogue.apply(value, at: place, channel: channel) }
    } else if accumulate {
      scatter(slice, bench, thread) { value, place, _ in value + Lanes(loading: y + place) }
    } else {
      scatter(slice, bench, thread) { value, _, _ in value }
    }
  }

  /// - finish: makes what is stored of a value, from its place in y and its channel.
  @inline(__always)
  private func scatter(
    _ slice: WinogradSlice, _ bench: WinogradWorkbench, _ thread: Int,
    _ finish: (_ value: Lanes, _ place: Int, _ channel: Int) -> Lanes
  ) {
    for tile in slice.tiles {
      let (image, line, column) = blocks.tiles.place(of: tile)
      let top = line * Output.outputs
      let left = column * Output.outputs
      let at = slice.at + tile - slice.tiles.lowerBound
      let first = ((image * output.h + top) * output.w + left) * k
      Winograd.scatter(
        S.self, Output.self, tile: blocks.tiles.extent(line, column), bench.m(slice.slot, 0) + at * k,
        step: bench.mStep, channels: k, into: y + first, line: output.w * k,
        height: min(Output.outputs, output.h - top), width: min(Output.outputs, output.w - left), bench.work(thread)
      ) { value, place, channel in finish(value, first &+ place, channel) }
    }
  }
}
