import Foundation

/// Convolution as GEMM over blocks of lowered rows, for every shape:
///
///     forward          Y = X̂ · W            X̂ (rows, R·S·C) lowered from X, W (R·S·C, K)
///     data gradient    X̂' = dY · Wᵀ         raised into dX
///     weight gradient  dW += X̂ᵀ · dY
///
/// Blocks are sized by shapes alone, so any number of threads gives the same bits.
struct LoweredConvolution {
  let shape: ConvolutionShape
  let context: Context
  private let lowering: Lowering

  /// Floats of lowered rows in a block: it stays in the L2 cache between lowering and GEMM.
  private static let blockFloats = 1 << 18
  /// Rows of a block where nothing is lowered.
  private static let matrixRows = 1024

  init(_ shape: ConvolutionShape, _ context: Context) {
    (self.shape, self.context) = (shape, context)
    lowering = Lowering(shape)
  }

  /// Output lines of a block.
  private var blockLines: Int {
    min(shape.lines, max(1, Self.blockFloats / (shape.depth * shape.width), 64 / shape.width))
  }

  func forward(_ x: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>) {
    let (k, depth, width) = (shape.k, shape.depth, shape.width)
    if shape.isMatrix {
      forEachRowBlock { rows in
        sgemm(rows.count, k, depth, x + rows.lowerBound * depth, lda: depth, weight, ldb: k,
          into: y + rows.lowerBound * k, ldc: k)
      }
      return
    }
    let block = blockLines
    context.scratch { arena in
      let matrices = arena.array(of: Float.self, count: context.team.count * block * width * depth).baseAddress!
      context.run(pieces(shape.lines, of: block)) { index, thread in
        let lines = piece(index, of: block, in: 0..<shape.lines)
        let matrix = matrices + thread * block * width * depth
        lowering.lower(x, lines: lines, into: matrix)
        sgemm(lines.count * width, k, depth, matrix, lda: depth, weight, ldb: k,
          into: y + lines.lowerBound * width * k, ldc: k)
      }
    }
  }

  func dataGradient(
    _ dy: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, into dx: UnsafeMutablePointer<Float>, accumulate: Bool
  ) {
    let (k, depth, width) = (shape.k, shape.depth, shape.width)
    if shape.isMatrix {
      forEachRowBlock { rows in
        sgemm(rows.count, depth, k, dy + rows.lowerBound * k, lda: k, transposed: false, weight, ldb: k, transposed: true,
          into: dx + rows.lowerBound * depth, ldc: depth, beta: accumulate ? 1 : 0)
      }
      return
    }
    // Raised rows of neighbouring lines overlap, those of different images do not: a thread takes whole images.
    let block = blockLines, images = max(1, block / shape.height), imageFloats = shape.h * shape.w * shape.c
    context.scratch { arena in
      let matrices = arena.array(of: Float.self, count: context.team.count * block * width * depth).baseAddress!
      context.run(pieces(shape.n, of: images)) { index, thread in
        let owned = piece(index, of: images, in: 0..<shape.n)
        let matrix = matrices + thread * block * width * depth
        if !accumulate { memset(dx + owned.lowerBound * imageFloats, 0, owned.count * imageFloats * 4) }
        let all = owned.lowerBound * shape.height..<owned.upperBound * shape.height
        for part in 0..<pieces(all.count, of: block) {
          let lines = piece(part, of: block, in: all)
          sgemm(lines.count * width, depth, k, dy + lines.lowerBound * width * k, lda: k, transposed: false, weight, ldb: k,
            transposed: true, into: matrix, ldc: depth)
          lowering.raise(matrix, lines: lines, addingTo: dx)
        }
      }
    }
  }

  private func forEachRowBlock(_ body: (Range<Int>) -> Void) {
    context.run(pieces(shape.rows, of: Self.matrixRows)) { index, _ in
      body(piece(index, of: Self.matrixRows, in: 0..<shape.rows))
    }
  }
}

// MARK: Weight gradient

extension LoweredConvolution {
  /// Lines that one partial sum spans at least: below, storing and merging it would be felt.
  private static let partialRows = 8192
  private static let partials = 16

  /// The sum over all rows is cut into `sums` ranges of lines, each with a gradient of its own, merged in order; and
  /// where the rows are few, the gradient into parts: kernel taps, kernel rows, or ranges of channels.
  func weightGradient(_ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, addingTo dw: UnsafeMutablePointer<Float>) {
    let sums = min(max(1, shape.rows / Self.partialRows), Self.partials, shape.lines)
    let parts = sums < Self.partials / 2 ? partsOfWeight : 1
    let count = shape.depth * shape.k, lines = shape.lines
    context.scratch { arena in
      let partial = arena.array(of: Float.self, count: sums > 1 ? sums * count : 0).baseAddress!
      let block = max(1, blockLines), floats = shape.isMatrix ? 0 : block * shape.width * shape.depth
      let matrices = arena.array(of: Float.self, count: context.team.count * floats).baseAddress!
      context.run(sums * parts) { index, thread in
        let (sum, part) = (index / parts, index % parts)
        let range = lines * sum / sums..<lines * (sum + 1) / sums
        let target = sums > 1 ? partial + sum * count : dw
        let matrix = matrices + thread * floats
        if shape.isMatrix {
          addMatrix(dy, x, range, part, of: parts, to: target, clear: sums > 1)
        } else {
          addLowered(dy, x, range, part, of: parts, block, matrix, to: target, clear: sums > 1)
        }
      }
      if sums > 1 { merge(partial, sums, count, into: dw) }
    }
  }

  /// Into how many parts the weight's rows can be cut without making the GEMMs thin.
  private var partsOfWeight: Int {
    if shape.isMatrix { return max(1, min(8, shape.c / 64)) }
    return shape.c >= 64 ? shape.kernel * shape.kernel : shape.kernel
  }

  private func addMatrix(
    _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ lines: Range<Int>, _ part: Int, of parts: Int,
    to dw: UnsafeMutablePointer<Float>, clear: Bool
  ) {
    let first = lines.lowerBound * shape.width
    let channels = shape.c * part / parts..<shape.c * (part + 1) / parts
    sgemm(channels.count, shape.k, lines.count * shape.width, x + first * shape.c + channels.lowerBound, lda: shape.c,
      transposed: true, dy + first * shape.k, ldb: shape.k, into: dw + channels.lowerBound * shape.k, ldc: shape.k,
      beta: clear ? 0 : 1)
  }

  private func addLowered(
    _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ lines: Range<Int>, _ part: Int, of parts: Int,
    _ block: Int, _ matrix: UnsafeMutablePointer<Float>, to dw: UnsafeMutablePointer<Float>, clear: Bool
  ) {
    let all = 0..<shape.kernel, (r, s) = (part / shape.kernel, part % shape.kernel)
    let lowering =
      parts == 1 ? Lowering(shape)
      : parts == shape.kernel ? Lowering(shape, r: part..<part + 1, s: all)
      : Lowering(shape, r: r..<r + 1, s: s..<s + 1)
    let target = dw + (parts == 1 ? 0 : part * lowering.depth * shape.k)
    for index in 0..<pieces(lines.count, of: block) {
      let some = piece(index, of: block, in: lines)
      lowering.lower(x, lines: some, into: matrix)
      sgemm(lowering.depth, shape.k, some.count * shape.width, matrix, lda: lowering.depth, transposed: true,
        dy + some.lowerBound * shape.width * shape.k, ldb: shape.k, into: target, ldc: shape.k,
        beta: clear && index == 0 ? 0 : 1)
    }
  }

  /// dw += the partial sums, in their order.
  private func merge(_ partial: UnsafePointer<Float>, _ sums: Int, _ count: Int, into dw: UnsafeMutablePointer<Float>) {
    let block = 4096
    context.run(pieces(count, of: block)) { index, _ in
      let range = piece(index, of: block, in: 0..<count)
      for sum in 0..<sums { add(partial + sum * count + range.lowerBound, to: dw + range.lowerBound, count: range.count) }
    }
  }
}

/// How many pieces of `size` cover `count`.
@inline(__always)
func pieces(_ count: Int, of size: Int) -> Int { (count + size - 1) / size }

@inline(__always)
func piece(_ index: Int, of size: Int, in range: Range<Int>) -> Range<Int> {
  let first = range.lowerBound + index * size
  return first..<min(first + size, range.upperBound)
}
