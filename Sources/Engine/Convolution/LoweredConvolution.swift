import Foundation

/// Convolution as GEMM over blocks of lowered rows, for every shape:
///
///     forward          Y = X̂ · W            X̂ (rows, R·S·C) lowered from X, W (R·S·C, K)
///     data gradient    X̂' = dY · Wᵀ         raised into dX
///     weight gradient  dW += X̂ᵀ · dY
///
/// The size of a block follows from the shape alone, so any number of threads gives the same bits.
struct LoweredConvolution {
  let shape: ConvolutionShape
  let context: Context
  private let lowering: Lowering

  /// Floats of lowered rows in a block: a megabyte, so that the block stays in the L2 cache between lowering and GEMM.
  /// A block has at least `blockRows` rows, because every block reads the weight again.
  private static let blockFloats = 1 << 18
  private static let blockRows = 256

  init(_ shape: ConvolutionShape, _ context: Context) {
    self.shape = shape
    self.context = context
    lowering = Lowering(shape)
  }

  /// Output lines of a block.
  private var blockLines: Int {
    min(shape.lines, max(1, Self.blockFloats / (shape.depth * shape.width), Self.blockRows / shape.width))
  }

  /// - epilogue: applied to the output, block by block.
  func forward(
    _ x: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>,
    _ epilogue: Epilogue?
  ) {
    let k = shape.k
    let depth = shape.depth
    let width = shape.width
    if shape.isMatrix {
      context.scratch { arena in
        let w = pack(weight, depth, k, arena)
        forEachRowBlock { rows in
          let at = rows.lowerBound * k
          w.multiply(rows.count, x + rows.lowerBound * depth, into: y + at, epilogue: epilogue?.moved(by: at))
        }
      }
      return
    }
    let block = blockLines
    context.scratch { arena in
      let w = pack(weight, depth, k, arena)
      let matrices = arena.array(of: Float.self, count: context.team.count * block * width * depth).baseAddress!
      context.run(pieces(shape.lines, of: block)) { index, thread in
        let lines = piece(index, of: block, in: 0..<shape.lines)
        let matrix = matrices + thread * block * width * depth
        lowering.lower(x, lines: lines, into: matrix)
        let at = lines.lowerBound * width * k
        w.multiply(lines.count * width, matrix, into: y + at, epilogue: epilogue?.moved(by: at))
      }
    }
  }

  func dataGradient(
    _ dy: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, into dx: UnsafeMutablePointer<Float>, accumulate: Bool
  ) {
    let k = shape.k
    let depth = shape.depth
    let width = shape.width
    if shape.isMatrix {
      context.scratch { arena in
        let w = pack(weight, k, depth, transposed: true, arena)
        forEachRowBlock { rows in
          w.multiply(
            rows.count, dy + rows.lowerBound * k, into: dx + rows.lowerBound * depth, accumulate: accumulate)
        }
      }
      return
    }
    // Rows of neighbouring lines overlap when they are added to dx; those of different images do not. So a thread takes
    // whole images.
    let block = blockLines
    let images = max(1, block / shape.height)
    let imageFloats = shape.h * shape.w * shape.c
    context.scratch { arena in
      let w = pack(weight, k, depth, transposed: true, arena)
      let matrices = arena.array(of: Float.self, count: context.team.count * block * width * depth).baseAddress!
      context.run(pieces(shape.n, of: images)) { index, thread in
        let owned = piece(index, of: images, in: 0..<shape.n)
        let matrix = matrices + thread * block * width * depth
        if !accumulate { memset(dx + owned.lowerBound * imageFloats, 0, owned.count * imageFloats * 4) }
        let all = owned.lowerBound * shape.height..<owned.upperBound * shape.height
        for part in 0..<pieces(all.count, of: block) {
          let lines = piece(part, of: block, in: all)
          w.multiply(lines.count * width, dy + lines.lowerBound * width * k, into: matrix)
          lowering.raise(matrix, lines: lines, addingTo: dx)
        }
      }
    }
  }

  private func pack(
    _ weight: UnsafePointer<Float>, _ rows: Int, _ columns: Int, transposed: Bool = false, _ arena: Arena
  ) -> Panels {
    let count = Panels.floats(rows, columns)
    let part = max(1, (1 << 14) / columns)
    let panels = Panels(arena.array(of: Float.self, count: count).baseAddress!, rows: rows, columns: columns)
    context.run(pieces(rows, of: part)) { index, _ in
      panels.pack(weight, transposed: transposed, rows: piece(index, of: part, in: 0..<rows))
    }
    return panels
  }

  /// Blocks of a 1×1 convolution, which needs no lowering: a thousand rows each, or up to four blocks for the threads
  /// to share where there are fewer rows.
  private func forEachRowBlock(_ body: (Range<Int>) -> Void) {
    let rows = shape.rows
    let size = rows >= 4096 ? 1024 : pieces(rows, of: max(1, min(4, rows / 384)))
    context.run(pieces(rows, of: size)) { index, _ in body(piece(index, of: size, in: 0..<rows)) }
  }
}

// MARK: Weight gradient

extension LoweredConvolution {
  /// Rows of a partial sum, at least: with fewer, storing and merging the sum would cost a noticeable part.
  private static let partialRows = 4096
  /// Pieces of work that keep a team of threads busy.
  private static let enough = 8

  /// dw += X̂ᵀ · dY. The sum over all rows is cut into `sums` ranges of lines; each has a gradient of its own, and
  /// these are added in order. Where there are few rows, the gradient itself is cut into `parts`.
  func weightGradient(_ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, addingTo dw: UnsafeMutablePointer<Float>) {
    let sums = min(max(1, shape.rows / Self.partialRows), 2 * Self.enough, shape.lines)
    let parts = sums < Self.enough ? partsOfWeight(atMost: pieces(Self.enough, of: sums)) : 1
    let count = shape.depth * shape.k
    let lines = shape.lines
    context.scratch { arena in
      let partial = arena.array(of: Float.self, count: sums > 1 ? sums * count : 0).baseAddress!
      let block = blockLines
      let floats = shape.isMatrix ? 0 : block * shape.width * shape.depth
      let matrices = arena.array(of: Float.self, count: context.team.count * floats).baseAddress!
      let works = arena.array(of: Float.self, count: context.team.count * transposedWork).baseAddress!
      context.run(sums * parts) { index, thread in
        let sum = index / parts
        let part = GradientPart(
          lines: share(sum, of: sums, lines), index: index % parts, count: parts,
          target: sums > 1 ? partial + sum * count : dw, overwrites: sums > 1, work: works + thread * transposedWork)
        if shape.isMatrix {
          add(part, dy, x)
        } else {
          add(part, dy, x, loweredInto: matrices + thread * floats, blockLines: block)
        }
      }
      if sums > 1 { merge(partial, sums, count, into: dw) }
    }
  }

  /// Parts of the weight's gradient. Thin GEMMs would pack the other factor again for each part, so a 1×1 kernel is cut
  /// into parts of 256 or more along the longer side (along the filters where rows are lowered), and another kernel
  /// into its rows.
  private func partsOfWeight(atMost limit: Int) -> Int {
    if shape.kernel > 1 { return shape.kernel }
    return max(1, min(limit, (shape.isMatrix ? max(shape.c, shape.k) : shape.k) / 256))
  }

  /// A part of the weight's gradient over some lines of the output: what a thread computes at a time.
  private struct GradientPart {
    let lines: Range<Int>
    /// Which part it is, of how many.
    let index: Int, count: Int
    /// The whole gradient, or a partial sum of it.
    let target: UnsafeMutablePointer<Float>
    /// Whether the part overwrites the target or is added to it.
    let overwrites: Bool
    /// The thread's, for `multiplyTransposed`.
    let work: UnsafeMutablePointer<Float>
  }

  /// The weight's gradient of a 1×1 convolution with stride 1.
  private func add(_ part: GradientPart, _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>) {
    let (c, k) = (shape.c, shape.k)
    let first = part.lines.lowerBound * shape.width
    let (channels, filters) =
      c >= k ? (share(part.index, of: part.count, c), 0..<k) : (0..<c, share(part.index, of: part.count, k))
    multiplyTransposed(
      channels.count, filters.count, part.lines.count * shape.width, x + first * c + channels.lowerBound, lda: c,
      dy + first * k + filters.lowerBound, ldb: k,
      into: part.target + channels.lowerBound * k + filters.lowerBound, ldc: k, accumulate: !part.overwrites,
      work: part.work)
  }

  /// The weight's gradient of any other, from lowered rows.
  private func add(
    _ part: GradientPart, _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>,
    loweredInto matrix: UnsafeMutablePointer<Float>, blockLines block: Int
  ) {
    let k = shape.k
    let (kernelRows, filters) =
      shape.kernel > 1
      ? (share(part.index, of: part.count, shape.kernel), 0..<k) : (0..<1, share(part.index, of: part.count, k))
    let lowering = Lowering(shape, kernelRows: kernelRows)
    for index in 0..<pieces(part.lines.count, of: block) {
      let lines = piece(index, of: block, in: part.lines)
      lowering.lower(x, lines: lines, into: matrix)
      multiplyTransposed(
        lowering.depth, filters.count, lines.count * shape.width, matrix, lda: lowering.depth,
        dy + lines.lowerBound * shape.width * k + filters.lowerBound, ldb: k,
        into: part.target + kernelRows.lowerBound * shape.kernel * shape.c * k + filters.lowerBound, ldc: k,
        accumulate: !part.overwrites || index > 0, work: part.work)
    }
  }

  private func share(_ part: Int, of parts: Int, _ size: Int) -> Range<Int> {
    size * part / parts..<size * (part + 1) / parts
  }

  /// dw += the partial sums, in their order.
  private func merge(_ partial: UnsafePointer<Float>, _ sums: Int, _ count: Int, into dw: UnsafeMutablePointer<Float>) {
    let block = 4096
    context.run(pieces(count, of: block)) { index, _ in
      let range = piece(index, of: block, in: 0..<count)
      for sum in 0..<sums {
        (dw + range.lowerBound).add(partial + sum * count + range.lowerBound, count: range.count)
      }
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
