/// Rows that were divided by their norms, and what their gradient needs: cosine similarities are their products.
package struct UnitRows {
  /// (N, D), of length one.
  package let rows: Tensor
  private let norms: UnsafeMutablePointer<Float>

  /// - z: (N, D), not normalised.
  package init(_ z: Tensor, in arena: Arena, _ context: Context) {
    rows = arena.tensor(like: z)
    norms = arena.array(of: Float.self, count: max(1, z.n)).baseAddress!
    L2Normalise.forward(z, into: rows, norms: norms, context)
  }

  /// The gradient by z, in place of the gradient by the rows, (N, D).
  package func backward(_ gradient: Tensor, _ context: Context) {
    L2Normalise.backward(gradient, unit: rows, norms: norms, context)
  }
}
