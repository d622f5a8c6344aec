import Foundation

/// Adam. Kingma, Ba 2014, arXiv:1412.6980, Algorithm 1, as torch.optim.Adam writes it; t counts steps from 1:
///
///     g ← g + λ·w;   m ← β₁·m + (1 − β₁)·g;   v ← β₂·v + (1 − β₂)·g²
///     w ← w − η/(1 − β₁ᵗ) · m / (√(v/(1 − β₂ᵗ)) + ε)
///
/// With decoupled decay (AdamW: Loshchilov, Hutter 2017, arXiv:1711.05101) w ← w − η·λ·w comes first, and g stays.
package struct Adam: Optimizer, Equatable {
  package static let name = "adam"
  package static let slabs = ["momentum", "square"]
  package static let scalesWithBatch = false

  /// β₁
  package var beta1 = 0.9
  /// β₂
  package var beta2 = 0.999
  /// ε
  package var epsilon = 1e-8
  /// λ
  package var decay = 0.0
  package var decoupled = false
  /// Kinds without decay.
  package var exclude: [Exclusion] = []

  package init() {}

  package var refusals: [(key: String, value: Double, range: String)] {
    unsteady([("beta1", beta1), ("beta2", beta2)]) + notPositive([("epsilon", epsilon)]) + negative([("decay", decay)])
  }

  package func update(
    _ parameters: ParameterSlab, _ gradients: ParameterSlab, state: [ParameterSlab], step: Int, rate: Float,
    _ context: Context
  ) {
    let t = Double(step + 1)
    let firstScale = 1 - pow(beta1, t)
    let secondScale = Float(1 / (1 - pow(beta2, t)).squareRoot())
    let b1 = Float(beta1)
    let b2 = Float(beta2)
    let a1 = Float(1 - beta1)
    let a2 = Float(1 - beta2)
    let epsilon = Float(epsilon)
    for entry in parameters.layout.entries where entry.trains {
      let w = parameters[entry.slice]
      let g = gradients[entry.slice]
      let m = state[0][entry.slice]
      let v = state[1][entry.slice]
      let decay = decay(of: entry)
      let rate = rate * entry.rateFactor
      let size = Float(Double(rate) / firstScale)
      let keep = decoupled ? 1 - rate * decay : 1
      let pull = decoupled ? 0 : decay
      context.elementwise(entry.slice.count) { range in
        for i in range {
          let gradient = g[i] + pull * w[i]
          m[i] = b1 * m[i] + a1 * gradient
          v[i] = b2 * v[i] + a2 * gradient * gradient
          w[i] = keep * w[i] - size * m[i] / (v[i].squareRoot() * secondScale + epsilon)
        }
      }
    }
  }
}
