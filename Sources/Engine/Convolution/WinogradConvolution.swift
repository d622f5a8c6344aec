import Foundation

/// 3×3 convolution with padding 1 and stride 1 or 2 by Winograd's filtering: a GEMM for each product of a tile, over
/// blocks of tiles whose transforms stay in the L2 cache.
///
///     forward          V = T x Tᵀ,  M[p] = V[p] · U[p],  y = S M Sᵀ      V (tiles, C), U (C, K), M (tiles, K)
///     data gradient    the same from dy with the kernel rotated by 180°
///     weight gradient  E = Sᵀ dy S,  dU[p] += V[p]ᵀ · E[p],  dW += Kᵀ dU K
///
/// A GEMM sums over channels or filters. Only the weight gradient sums over blocks: in their order, in up to sixteen
/// partial sums. `WinogradBlocks` cuts blocks and sums by the shape alone, so any number of threads gives the same
/// bits.
struct WinogradConvolution {
  let shape: ConvolutionShape
  let context: Context
  private let blocks: WinogradBlocks

  init(_ shape: ConvolutionShape, _ context: Context) {
    self.shape = shape
    self.context = context
    blocks = WinogradBlocks(shape)
  }

  /// Whether the algorithm exists for the shape.
  static func exists(_ shape: ConvolutionShape) -> Bool {
    shape.kernel == 3 && shape.stride <= 2 && shape.padding == 1
      && shape.c % Lanes.scalarCount == 0 && shape.k % Lanes.scalarCount == 0
  }

  /// Whether it is also faster than the direct convolution. Counts products for each pair of a channel and a filter: 9
  /// an output against 36 or 81 a tile (fewer for the short tiles at a map's border), plus a fifth for the transforms
  /// of tiles. The transform of the weight is left out: with two tiles and 512 channels Winograd is already faster.
  var pays: Bool {
    let tiles = blocks.tiles
    let products = shape.stride == 1 ? tiles.products(WinogradStride1.self) : tiles.products(WinogradStride2.self)
    return 5 * 9 * shape.rows > 6 * products
  }

  /// y ← x convolved with the weight (3, 3, C, K).
  /// - epilogue: applied to the output, tile by tile.
  func forward(
    _ x: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>,
    _ epilogue: Epilogue?
  ) {
    func run<S: WinogradScheme>(_: S.Type) {
      WinogradProduct<S, S.Input, S.Output>(
        context: context, blocks: blocks,
        patches: WinogradPatches(x: x, map: input, advance: S.advance, margin: S.margin),
        weight: weight, turned: false, y: y, output: output, accumulate: false, epilogue: epilogue
      ).run()
    }
    if shape.stride == 1 { run(WinogradStride1.self) } else { run(WinogradStride2.self) }
  }

  /// dx ← (or +=) dy convolved with the turned weight.
  func dataGradient(
    _ dy: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, into dx: UnsafeMutablePointer<Float>, accumulate: Bool
  ) {
    func run<S: WinogradScheme>(_: S.Type) {
      WinogradProduct<S, S.TurnedInput, S.TurnedOutput>(
        context: context, blocks: blocks,
        patches: WinogradPatches(x: dy, map: output, advance: Winograd.tile, margin: S.turnedMargin),
        weight: weight, turned: true, y: dx, output: input, accumulate: accumulate, epilogue: nil
      ).run()
    }
    if shape.stride == 1 { run(WinogradStride1.self) } else { run(WinogradStride2.self) }
  }

  /// dw += the weight's gradient.
  func weightGradient(_ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, addingTo dw: UnsafeMutablePointer<Float>) {
    func run<S: WinogradScheme>(_: S.Type) {
      WinogradWeightGradient<S>(
        context: context, blocks: blocks,
        patches: WinogradPatches(x: x, map: input, advance: S.advance, margin: S.margin),
        cotangents: WinogradPatches(x: dy, map: output, advance: Winograd.tile, margin: 0), dw: dw
      ).run()
    }
    if shape.stride == 1 { run(WinogradStride1.self) } else { run(WinogradStride2.self) }
  }

  private var input: WinogradMap { WinogradMap(h: shape.h, w: shape.w, c: shape.c) }
  private var output: WinogradMap { WinogradMap(h: shape.height, w: shape.width, c: shape.k) }
}
