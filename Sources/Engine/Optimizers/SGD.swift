/// Stochastic gradient descent, as torch.optim.SGD writes it:
///
///     g ← g + λ·w;   v ← m·v + g;   w ← w − η·v   (Nesterov: w ← w − η·(g + m·v))
package struct SGD: Optimizer, Equatable {
  package var momentum: Float, nesterov: Bool, decay: Float
  /// Kinds without decay.
  package var exclude: [Exclusion]

  package init(momentum: Float = 0.9, nesterov: Bool = false, decay: Float = 1e-4, exclude: [Exclusion] = []) {
    self.momentum = momentum
    self.nesterov = nesterov
    self.decay = decay
    self.exclude = exclude
  }

  package func update(
    _ parameters: ParameterSlab, _ gradients: ParameterSlab, momentum velocity: ParameterSlab, rate: Float,
    _ context: Context
  ) {
    for entry in parameters.layout.entries where !entry.frozen {
      let w = parameters[entry.slice]
      let g = gradients[entry.slice]
      let v = velocity[entry.slice]
      let decay = exclude.contains { $0.covers(entry.kind) } ? 0 : decay
      let rate = rate * entry.rateFactor
      context.elementwise(entry.slice.count) { range in
        for i in range {
          let gradient = g[i] + decay * w[i]
          v[i] = momentum * v[i] + gradient
          w[i] -= rate * (nesterov ? gradient + momentum * v[i] : v[i])
        }
      }
    }
  }
}
