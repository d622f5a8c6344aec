/// Layer-wise adaptive rate scaling. You et al. 2017, arXiv:1708.03888. Two families and two trust ratios go by this
/// name; they agree only at a constant rate, so both are explicit:
///
///     r = η‖w‖/‖g + λw‖  (combined: simclr, byol)   or   η‖w‖/(‖g‖ + λ‖w‖)  (separate: apex, OpenSelfSup)
///     inside:  v ← m·v + rate·r·(g + λw);  w ← w − v         (google-research/simclr `classic_momentum`)
///     outside: v ← m·v + r·(g + λw);       w ← w − rate·v    (byol, vissl, lightly)
///
/// r is 1 where ‖w‖ or the denominator is 0, where a rule says so, and for the excluded kinds, which also take no
/// decay. apex's LARC, which is separate and outside, passes over a parameter whose gradient is exactly 0, without
/// decay: there r is 0.
package struct LARS: Optimizer, Equatable {
  package enum RatePlacement: String, Codable, Sendable, CaseIterable { case inside, outside }
  package enum TrustRatio: String, Codable, Sendable, CaseIterable { case combined, separate }

  package static let name = "lars"
  package static let slabs = ["momentum"]

  package var momentum = 0.9
  package var nesterov = false
  package var decay = 1e-6
  /// η
  package var trust = 1e-3
  package var rateIn = RatePlacement.inside
  package var ratio = TrustRatio.combined
  /// Kinds without decay and trust ratio.
  package var exclude: [Exclusion] = [.normalisation, .bias]

  package init() {}

  /// An option that is not given has its default.
  package init(
    momentum: Double = LARS().momentum, nesterov: Bool = LARS().nesterov, decay: Double = LARS().decay,
    trust: Double = LARS().trust, rateIn: RatePlacement = LARS().rateIn, ratio: TrustRatio = LARS().ratio,
    exclude: [Exclusion] = LARS().exclude
  ) {
    self.momentum = momentum
    self.nesterov = nesterov
    self.decay = decay
    self.trust = trust
    self.rateIn = rateIn
    self.ratio = ratio
    self.exclude = exclude
  }

  package var refusals: [(key: String, value: Double, range: String)] {
    unsteady([("momentum", momentum)]) + negative([("decay", decay)]) + notPositive([("trust", trust)])
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
      let count = entry.slice.count
      let decay = decay(of: entry)
      let r = excludes(entry) || !entry.adapts ? 1 : trustRatio(w, g, count, decay)
      let rate = rate * entry.rateFactor
      let inside = rateIn == .inside ? rate * r : r
      let outside = rateIn == .inside ? 1 : rate
      context.elementwise(count) { range in
        for i in range {
          let gradient = inside * (g[i] + decay * w[i])
          v[i] = momentum * v[i] + gradient
          w[i] -= outside * (nesterov ? gradient + momentum * v[i] : v[i])
        }
      }
    }
  }

  private func trustRatio(_ w: UnsafePointer<Float>, _ g: UnsafePointer<Float>, _ count: Int, _ decay: Float) -> Float {
    let weight = norm(w, count)
    let denominator: Double
    switch ratio {
    case .separate:
      let gradient = norm(g, count)
      if gradient == 0, rateIn == .outside { return 0 }
      denominator = gradient + Double(decay) * weight
    case .combined:
      var sum = 0.0
      for i in 0..<count {
        let value = Double(g[i]) + Double(decay) * Double(w[i])
        sum += value * value
      }
      denominator = sum.squareRoot()
    }
    return weight > 0 && denominator > 0 ? Float(Double(Float(trust)) * weight / denominator) : 1
  }
}
