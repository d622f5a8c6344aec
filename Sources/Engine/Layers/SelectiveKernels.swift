import Foundation

/// Attention over two streams, computed from the whole image. Li et al. 2019, arXiv:1903.06586, section 3.1, in the
/// form of SimCLR v2 (arXiv:2006.10029; google-research/simclr `tf2/resnet.py`), where both streams come out of one 3×3
/// convolution of 2F filters. For streams x₁, x₂ of F channels each:
///
///     s = mean over H×W of x₁ + x₂,   u = max(0, BN(W₁·s)),   (a₁, a₂) = softmax over the streams of W₂·u,
///     y = a₁·x₁ + a₂·x₂               channel by channel
///
/// W₁ squeezes to max(⌊F·ratio⌋, 32) channels; neither has a bias.
struct SelectiveKernels {
  /// W₁ and its BN.
  let squeeze: ConvNorm
  /// W₂
  let expand: Convolution

  /// What backward needs besides the streams, which are recomputed.
  struct Tape: BitwiseCopyable {
    /// s, (N, F)
    let pooled: Tensor
    let squeeze: ConvNorm.Tape
    /// u
    let squeezed: Tensor
    /// (a₁, a₂), (N, 2F)
    let weights: Tensor
  }

  /// F
  private var filters: Int { expand.filters / 2 }

  /// Channels of u.
  static func squeezedChannels(filters: Int, ratio: Double) -> Int { max(Int(Double(filters) * ratio), 32) }

  /// - x: the streams, (N, H, W, 2F), x₁ before x₂ in every pixel.
  /// - Returns: y, (N, H, W, F), in temporary memory.
  func forward(_ x: Tensor, _ pass: Pass) -> (tape: Tape, y: Tensor) {
    let arena = pass.arena
    let pooled = arena.tensor(n: x.n, c: filters)
    let weights = arena.tensor(n: x.n, c: 2 * filters)
    let squeezed = arena.tensor(n: x.n, c: squeeze.convolution.filters)
    pass.context.part(.pooling, bytes: x.bytes) { mean(x, into: pooled, pass.context) }
    let squeezeTape = squeeze.forward(pooled, relu: true, into: squeezed, pass)
    expand.forward(squeezed, into: weights, pass)
    pass.context.watch?.look(at: weights, pass.state.parameters.layout.name(of: expand.weight))
    softmax(weights, pass.context)
    let tape = Tape(pooled: pooled, squeeze: squeezeTape, squeezed: squeezed, weights: weights)
    return (tape, recompute(x, tape, pass))
  }

  /// Recomputes y from the streams and the tape, bit for bit, in temporary memory.
  func recompute(_ x: Tensor, _ tape: Tape, _ pass: Pass) -> Tensor {
    let f = filters
    let y = pass.arena.temporary(n: x.n, h: x.h, w: x.w, c: f)
    pass.context.part(.pooling, bytes: x.bytes + y.bytes) {
      pass.context.run(x.n) { image, _ in
        let a1 = tape.weights.data + image * 2 * f
        let a2 = a1 + f
        for row in image * x.rowsPerImage..<(image + 1) * x.rowsPerImage {
          let x1 = x.data + row * 2 * f
          let x2 = x1 + f
          let out = y.data + row * f
          for c in 0..<f { out[c] = a1[c] * x1[c] + a2[c] * x2[c] }
        }
      }
    }
    return y
  }

  /// Adds to the gradients of W₁, W₂ and BN.
  /// - x: the streams; on return they hold their own gradient.
  func backward(_ dy: Tensor, _ tape: Tape, x: Tensor, _ pass: Pass) {
    pass.context.scratch { arena in
      let dWeights = arena.tensor(like: tape.weights)
      let dSqueezed = arena.tensor(like: tape.squeezed)
      let dPooled = arena.tensor(like: tape.pooled)
      pass.context.part(.pooling, bytes: dy.bytes + x.bytes) {
        differentiateChoice(dy, x, tape.weights, into: dWeights, pass.context)
      }
      expand.backward(dWeights, x: tape.squeezed, dx: dSqueezed, accumulate: false, pass)
      squeeze.backward(dSqueezed, tape.squeeze, x: tape.pooled, dx: dPooled, pass)
      pass.context.part(.pooling, bytes: dy.bytes + x.bytes) {
        spread(dy, tape.weights, dPooled, into: x, pass.context)
      }
    }
  }

  // MARK: Passes over the maps

  private func mean(_ x: Tensor, into pooled: Tensor, _ context: Context) {
    sumByLine(of: x, into: pooled, context) { sum, row in
      sum.add(x.data + row * 2 * filters, count: filters)
      sum.add(x.data + row * 2 * filters + filters, count: filters)
    }
    context.run(x.n) { image, _ in
      let scale = 1 / Float(x.rowsPerImage)
      let s = pooled.data + image * filters
      for c in 0..<filters { s[c] *= scale }
    }
  }

  /// a₁ = 1/(1 + exp(e₂ − e₁)), and a₂ likewise, in place of e.
  private func softmax(_ e: Tensor, _ context: Context) {
    context.run(e.n) { image, _ in
      let first = e.data + image * 2 * filters
      let second = first + filters
      for c in 0..<filters {
        let difference = second[c] - first[c]
        first[c] = 1 / (1 + exp(difference))
        second[c] = 1 / (1 + exp(-difference))
      }
    }
  }

  /// de₁ = a₁·a₂·Σ dy·(x₁ − x₂) = −de₂
  private func differentiateChoice(_ dy: Tensor, _ x: Tensor, _ weights: Tensor, into d: Tensor, _ context: Context) {
    let f = filters
    context.scratch { arena in
      let sums = arena.tensor(n: x.n, c: f)
      sumByLine(of: x, into: sums, context) { sum, row in
        let x1 = x.data + row * 2 * f
        let x2 = x1 + f
        let dy = dy.data + row * f
        for c in 0..<f { sum[c] += dy[c] * (x1[c] - x2[c]) }
      }
      context.run(x.n) { image, _ in
        let a = weights.data + image * 2 * f
        let de = d.data + image * 2 * f
        let sum = sums.data + image * f
        for c in 0..<f {
          de[c] = a[c] * a[f + c] * sum[c]
          de[f + c] = -de[c]
        }
      }
    }
  }

  /// dx₁ = a₁·dy + ds/(H·W), and dx₂ likewise.
  private func spread(_ dy: Tensor, _ weights: Tensor, _ ds: Tensor, into dx: Tensor, _ context: Context) {
    let f = filters
    let scale = 1 / Float(dx.rowsPerImage)
    context.run(dx.n) { image, _ in
      let a1 = weights.data + image * 2 * f
      let a2 = a1 + f
      let ds = ds.data + image * f
      for row in image * dx.rowsPerImage..<(image + 1) * dx.rowsPerImage {
        let dx1 = dx.data + row * 2 * f
        let dx2 = dx1 + f
        let dy = dy.data + row * f
        for c in 0..<f {
          dx1[c] = a1[c] * dy[c] + scale * ds[c]
          dx2[c] = a2[c] * dy[c] + scale * ds[c]
        }
      }
    }
  }

  /// Sums F values over the pixels of every image, line by line, which keeps the rounding error of a large map small.
  /// - add: adds those of a pixel, a row of x's matrix.
  private func sumByLine(
    of x: Tensor, into sums: Tensor, _ context: Context, _ add: (_ sum: UnsafeMutablePointer<Float>, _ row: Int) -> Void
  ) {
    let f = filters
    context.scratch { arena in
      let lines = arena.array(of: Float.self, count: context.team.count * f).baseAddress!
      context.run(x.n) { image, thread in
        let sum = sums.data + image * f
        let line = lines + thread * f
        sum.update(repeating: 0, count: f)
        for h in image * x.h..<(image + 1) * x.h {
          line.update(repeating: 0, count: f)
          for row in h * x.w..<(h + 1) * x.w { add(line, row) }
          sum.add(line, count: f)
        }
      }
    }
  }
}
