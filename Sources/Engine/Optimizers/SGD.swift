/// Stochastic gradient descent, as torch.optim.SGD writes it:
///
///     g ← g + λ·w;   v ← m·v + g;   w ← w − η·v   (Nesterov: w ← w − η·(g + m·v))
package struct SGD: Optimizer, Equatable {
  package static let name = "sgd"
  package static let slabs = ["momentum"]

  package var momentum = 0.9
  package var nesterov = false
  package var decay = 1e-4
  /// Kinds without decay.
  package var exclude: [Exclusion] = []

  package init() {}

  /// An option that is not given has its default.
  package init(
    momentum: Double = SGD().momentum, nesterov: Bool = SGD().nesterov, decay: Double = SGD().decay,
    exclude: [Exclusion] = SGD().exclude
  ) {
    self.momentum = momentum
    self.nesterov = nesterov
    self.decay = decay
    self.exclude = exclude
  }

  package var refusals: [(key: String, value: Double, range: String)] {
    unsteady([("momentum", momentum)]) + negative([("decay", decay)])
  }

  package func update(
    _ parameters: ParameterSlab, _ gradients: ParameterSlab, state: [ParameterSlab], step: Int, rate: Float,
    _ context: Context
  ) {
    let momentum = Float(self.momentum)
    for entry in parameters.layout.entries where entry.trains {
      let w = parameters[entry.slice]
      let g = gradients[entry.slice]
      let v = state[0][entry.slice]
      let decay = decay(of: entry)
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
