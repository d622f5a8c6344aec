/// L2 normalisation of rows, ẑ = z/‖z‖ (torch.nn.functional.normalize, ε 1e-12).
package enum L2Normalise {
  /// - Parameters:
  ///   - z: (N, D).
  ///   - into: (N, D), overwritten; may be z.
  ///   - norms: (N), ‖z‖ for backward.
  package static func forward(_ z: Tensor, into unit: Tensor, norms: UnsafeMutablePointer<Float>?, _ context: Context) {
    context.run(z.n) { row, _ in
      let from = z.data + row * z.c
      let to = unit.data + row * z.c
      var sum = 0.0
      for i in 0..<z.c { sum += Double(from[i]) * Double(from[i]) }
      let norm = max(sum.squareRoot(), 1e-12)
      norms?[row] = Float(norm)
      for i in 0..<z.c { to[i] = Float(Double(from[i]) / norm) }
    }
  }

  /// dz = (dẑ − ẑ·(ẑ·dẑ))/‖z‖, in place of dẑ.
  package static func backward(_ d: Tensor, unit: Tensor, norms: UnsafePointer<Float>, _ context: Context) {
    let c = unit.c
    context.run(d.n) { row, _ in
      let gradient = d.data + row * c
      let unit = unit.data + row * c
      var dot = 0.0
      for i in 0..<c { dot += Double(gradient[i]) * Double(unit[i]) }
      let scale = 1 / Double(norms[row])
      for i in 0..<c { gradient[i] = Float((Double(gradient[i]) - Double(unit[i]) * dot) * scale) }
    }
  }
}
