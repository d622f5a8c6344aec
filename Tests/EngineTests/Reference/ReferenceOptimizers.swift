/// Optimizers by their formulas, in Double, on one parameter tensor.
enum ReferenceOptimizers {
  struct State { var w: [Double], v: [Double] }

  /// SGD as in the documentation of torch.optim.SGD, with dampening 0.
  static func sgd(_ state: inout State, _ g: [Double], rate: Double, momentum: Double, decay: Double, nesterov: Bool) {
    for i in g.indices {
      var step = g[i] + decay * state.w[i]
      state.v[i] = momentum * state.v[i] + step
      step = nesterov ? step + momentum * state.v[i] : state.v[i]
      state.w[i] -= rate * step
    }
  }

  /// LARS with the rate inside or outside the momentum, and with one of the two trust ratios.
  static func lars(
    _ state: inout State, _ g: [Double], rate: Double, momentum: Double, decay: Double, trust: Double, inside: Bool,
    combined: Bool, excluded: Bool, adapts: Bool = true, nesterov: Bool = false
  ) {
    func norm(_ x: [Double]) -> Double { x.reduce(0) { $0 + $1 * $1 }.squareRoot() }
    let decay = excluded ? 0 : decay
    let total = zip(g, state.w).map { $0 + decay * $1 }
    let denominator = combined ? norm(total) : norm(g) + decay * norm(state.w)
    var ratio = 1.0
    if !excluded, adapts, norm(state.w) > 0, denominator > 0 { ratio = trust * norm(state.w) / denominator }
    // apex's LARC adapts a gradient, and adds decay, only if the gradient is not 0.
    if adapts, !inside, !combined, norm(g) == 0 { ratio = 0 }
    for i in g.indices {
      let adapted = ratio * total[i]
      if inside {
        state.v[i] = momentum * state.v[i] + rate * adapted
        state.w[i] -= nesterov ? rate * adapted + momentum * state.v[i] : state.v[i]
      } else {
        state.v[i] = momentum * state.v[i] + adapted
        state.w[i] -= rate * (nesterov ? adapted + momentum * state.v[i] : state.v[i])
      }
    }
  }
}
