/// Normalised rows, and the norms that backward needs. Their dot products are cosine similarities.
package struct UnitRows {
  /// (N, D), each row of length one.
  package let rows: Tensor
  private let norms: UnsafeMutablePointer<Float>

  /// - z: (N, D), not normalised.
  package init(_ z: Tensor, in arena: Arena, _ context: Context) {
    rows = arena.tensor(like: z)
    norms = arena.array(of: Float.self, count: max(1, z.n)).baseAddress!
    L2Normalise.forward(z, into: rows, norms: norms, context)
  }

  /// Replaces the gradient of the rows, (N, D), by the gradient of z.
  package func backward(_ gradient: Tensor, _ context: Context) {
    L2Normalise.backward(gradient, unit: rows, norms: norms, context)
  }
}
