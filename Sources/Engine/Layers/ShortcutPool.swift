/// The mean over 2×2 of ResNet-D's shortcuts. He et al. 2018, arXiv:1812.01187, figure 2c; borders as in
/// google-research/simclr `tf2/resnet.py`: with stride 2 an odd side is padded by a line of zeros, which counts in the
/// mean; with stride 1 the last line and column are means of the pixels that exist.
struct ShortcutPool {
  /// 1 or 2.
  let stride: Int

  func extent(of input: Int) -> Int { (input - 1) / stride + 1 }

  /// - x: (N, H, W, C).
  /// - Returns: (N, ⌈H/stride⌉, ⌈W/stride⌉, C), in temporary memory.
  func forward(_ x: Tensor, _ pass: Pass) -> Tensor {
    let y = pass.arena.temporary(n: x.n, h: extent(of: x.h), w: extent(of: x.w), c: x.c)
    pass.context.part(.pooling, bytes: x.bytes + y.bytes) {
      pass.context.run(x.n) { image, _ in
        forEachWindow(image, x, y) { out, lines, columns, scale in
          let mean = y.data + out
          mean.update(repeating: 0, count: x.c)
          for line in lines {
            for column in columns { mean.add(x.data + ((image * x.h + line) * x.w + column) * x.c, count: x.c) }
          }
          for c in 0..<x.c { mean[c] *= scale }
        }
      }
    }
    return y
  }

  /// dx is overwritten.
  func backward(_ dy: Tensor, dx: Tensor, _ pass: Pass) {
    pass.context.part(.pooling, bytes: dy.bytes + dx.bytes) {
      pass.context.run(dx.n) { image, _ in
        (dx.data + image * dx.h * dx.w * dx.c).update(repeating: 0, count: dx.h * dx.w * dx.c)
        forEachWindow(image, dx, dy) { out, lines, columns, scale in
          let d = dy.data + out
          for line in lines {
            for column in columns {
              let into = dx.data + ((image * dx.h + line) * dx.w + column) * dx.c
              for c in 0..<dx.c { into[c] += scale * d[c] }
            }
          }
        }
      }
    }
  }

  /// Calls `body` with the offset of every mean in y, the lines and columns of x that it is over, and one over their
  /// number, in which padding counts with stride 2.
  @inline(__always)
  private func forEachWindow(
    _ image: Int, _ x: Tensor, _ y: Tensor, _ body: (_ out: Int, Range<Int>, Range<Int>, _ scale: Float) -> Void
  ) {
    for oh in 0..<y.h {
      let lines = stride * oh..<min(x.h, stride * oh + 2)
      for ow in 0..<y.w {
        let columns = stride * ow..<min(x.w, stride * ow + 2)
        let count = stride == 1 ? lines.count * columns.count : 4
        body(((image * y.h + oh) * y.w + ow) * y.c, lines, columns, 1 / Float(count))
      }
    }
  }
}
