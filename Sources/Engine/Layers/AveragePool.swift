/// The mean over height and width.
package enum AveragePool {
  /// - x: (N, H, W, C). y: (N, 1, 1, C), overwritten.
  package static func forward(_ x: Tensor, into y: Tensor, _ context: Context) {
    precondition(y.n == x.n && y.c == x.c && y.rowsPerImage == 1, "average pool \(x.shape) into \(y.shape)")
    context.run(x.n) { image, _ in
      let out = y.data + image * x.c
      out.update(repeating: 0, count: x.c)
      for row in 0..<x.rowsPerImage { out.add(x.data + (image * x.rowsPerImage + row) * x.c, count: x.c) }
      let scale = 1 / Float(x.rowsPerImage)
      for c in 0..<x.c { out[c] *= scale }
    }
  }

  /// dx is overwritten.
  package static func backward(_ dy: Tensor, dx: Tensor, _ context: Context) {
    context.run(dx.n) { image, _ in
      let scale = 1 / Float(dx.rowsPerImage)
      let from = dy.data + image * dx.c
      for row in 0..<dx.rowsPerImage {
        let into = dx.data + (image * dx.rowsPerImage + row) * dx.c
        for c in 0..<dx.c { into[c] = scale * from[c] }
      }
    }
  }
}
