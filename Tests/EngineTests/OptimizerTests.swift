import Engine
import Randomness
import Testing

/// Five steps of an optimizer and of its reference over parameters of every kind: one larger than a block of an
/// elementwise pass, one that is zero, one frozen, one with its own rate, one without LARS's trust ratio.
private struct OptimizerCase {
  let layout: ParameterLayout, start: NetworkState

  init() {
    var layout = ParameterLayout(
      rules: [Rule("frozen", trains: false), Rule("slow", rate: 0.25), Rule("plain", adapts: false)])
    _ = layout.add("large.weight", [200, 201], .weight, .normal(0.1))
    _ = layout.add("small.weight", [37], .weight, .normal(2))
    _ = layout.add("fc.bias", [5], .bias, .normal(1))
    _ = layout.add("bn.weight", [17], .scale, .normal(1))
    _ = layout.add("bn.bias", [17], .shift, .normal(1))
    _ = layout.add("zero.weight", [9], .weight, .constant(0))
    _ = layout.add("frozen.weight", [19], .weight, .normal(1))
    _ = layout.add("slow.weight", [33], .weight, .normal(1))
    _ = layout.add("plain.weight", [21], .weight, .normal(1))
    self.layout = layout
    start = NetworkState(layout, ParameterLayout())
    start.initialise(seed: 9)
  }

  /// The rate of a step. It changes, because the variants of LARS differ only then.
  static func rate(_ step: Int) -> Float { [0.1, 0.5, 0.3, 0.02, 0.2][step] }
  /// Random gradients of a step. In step 2 all are 0.
  func gradients(_ step: Int) -> ParameterSlab {
    let slab = ParameterSlab(layout)
    for entry in layout.entries {
      var draws = Draws(test: "gradient of \(entry.name) at \(step)")
      for i in 0..<entry.slice.count { slab[entry.slice][i] = step == 2 ? 0 : Float(draws.normal()) }
    }
    return slab
  }

  /// - reference: updates one parameter's state; gets the entry's own rate.
  func expect(
    _ optimizer: any Optimizer, _ what: String,
    _ reference: (inout ReferenceOptimizers.State, [Double], Double, ParameterLayout.Entry) -> Void
  ) {
    let results = [1, 3].map { threads in
      let context = Context(threads: threads, arena: Arena(reserving: 1 << 20))
      let parameters = ParameterSlab(layout)
      let momentum = ParameterSlab(layout)
      parameters.copy(start.parameters)
      for step in 0..<5 {
        let gradients = gradients(step)
        let bits = gradients.bits
        optimizer.update(parameters, gradients, state: [momentum], step: step, rate: Self.rate(step), context)
        #expect(gradients.bits == bits, "\(what): gradients are not changed")
        #expect(parameters.paddingIsZero && momentum.paddingIsZero, "\(what): padding")
      }
      return (parameters, momentum)
    }
    #expect(results[0].0.bits == results[1].0.bits && results[0].1.bits == results[1].1.bits, "\(what): threads")
    for entry in layout.entries { expect(results[0], entry, what, reference) }
  }

  private func expect(
    _ found: (ParameterSlab, ParameterSlab), _ entry: ParameterLayout.Entry, _ what: String,
    _ reference: (inout ReferenceOptimizers.State, [Double], Double, ParameterLayout.Entry) -> Void
  ) {
    let begin = start.parameters.values(entry.slice)
    var state = ReferenceOptimizers.State(w: begin, v: begin.map { _ in 0 })
    var path = begin.map(abs)
    var speed = begin.map { _ in 0.0 }
    for step in 0..<5 where entry.trains {
      let before = state.w
      reference(&state, gradients(step).values(entry.slice), Double(Self.rate(step) * entry.rateFactor), entry)
      for i in begin.indices {
        path[i] += abs(state.w[i] - before[i])
        speed[i] += abs(state.v[i])
      }
    }
    // Ten roundings per step, relative to the length of the path; the error of w also changes the trust ratio.
    let w = path.map { 50 * roundoff * ($0 + 1e-6) }
    let v = speed.map { 50 * roundoff * ($0 + 1e-6) }
    expectClose(
      UnsafeBufferPointer(start: found.0[entry.slice], count: entry.slice.count), state.w, within: w,
      "\(what), \(entry.name)")
    expectClose(
      UnsafeBufferPointer(start: found.1[entry.slice], count: entry.slice.count), state.v, within: v,
      "\(what), v of \(entry.name)")
    if !entry.trains { #expect(found.0.values(entry.slice) == begin, "\(what): \(entry.name) is frozen") }
  }
}

@Suite struct OptimizerTests {
  @Test(arguments: [false, true], [[], [Exclusion.normalisation], [.normalisation, .bias]])
  func sgd(nesterov: Bool, exclude: [Exclusion]) {
    let optimizer = SGD(momentum: 0.9, nesterov: nesterov, decay: 0.05, exclude: exclude)
    OptimizerCase().expect(optimizer, "\(optimizer)") { state, g, rate, entry in
      let kind = entry.kind
      let isNorm = kind == .scale || kind == .shift
      let excluded = exclude.contains(.normalisation) && isNorm || exclude.contains(.bias) && kind == .bias
      ReferenceOptimizers.sgd(
        &state, g, rate: rate, momentum: Double(Float(0.9)), decay: excluded ? 0 : Double(Float(0.05)),
        nesterov: nesterov)
    }
  }

  @Test(arguments: LARS.RatePlacement.allCases, LARS.TrustRatio.allCases)
  func lars(rateIn: LARS.RatePlacement, ratio: LARS.TrustRatio) {
    for (exclude, nesterov) in [([], false), ([Exclusion.bias], false), ([.normalisation, .bias], false), ([], true)] {
      let optimizer = LARS(decay: 0.05, trust: 0.02, rateIn: rateIn, ratio: ratio, exclude: exclude)
      var optimizerOrNesterov = optimizer
      optimizerOrNesterov.nesterov = nesterov
      OptimizerCase().expect(optimizerOrNesterov, "\(optimizerOrNesterov)") { state, g, rate, entry in
        let kind = entry.kind
        let excluded =
          exclude.contains(.normalisation) && (kind == .scale || kind == .shift)
          || exclude.contains(.bias) && kind == .bias
        ReferenceOptimizers.lars(
          &state, g, rate: rate, momentum: Double(Float(0.9)), decay: Double(Float(0.05)), trust: Double(Float(0.02)),
          inside: rateIn == .inside, combined: ratio == .combined, excluded: excluded,
          adapts: entry.adapts, nesterov: nesterov)
      }
    }
  }

  /// A part whose rate is not adapted moves by LARS as by SGD, to the bit, and the others as without the rule.
  @Test(arguments: LARS.TrustRatio.allCases) func aPartThatDoesNotAdapt(ratio: LARS.TrustRatio) {
    func run(_ rules: [Rule], _ optimizer: any Optimizer) -> [[Double]] {
      var layout = ParameterLayout(rules: rules)
      for name in ["encoder.weight", "classifier.weight"] { _ = layout.add(name, [30, 7], .weight, .normal(1)) }
      let state = NetworkState(layout, ParameterLayout())
      state.initialise(seed: 9)
      let momentum = ParameterSlab(layout)
      for step in 0..<3 {
        let gradients = ParameterSlab(layout)
        for entry in layout.entries {
          var draws = Draws(test: "gradient of \(entry.name) at \(step)")
          for i in 0..<entry.slice.count { gradients[entry.slice][i] = step == 1 ? 0 : Float(draws.normal()) }
        }
        optimizer.update(
          state.parameters, gradients, state: [momentum], step: step, rate: OptimizerCase.rate(step),
          Context(arena: Arena(reserving: 1 << 20)))
      }
      return layout.entries.map { state.parameters.values($0.slice) }
    }
    let lars = LARS(decay: 0.05, trust: 0.02, rateIn: .outside, ratio: ratio, exclude: [])
    let apart = run([Rule("classifier", adapts: false)], lars)
    let whole = run([], lars)
    let sgd = run([], SGD(momentum: 0.9, decay: 0.05))
    #expect(apart[0] == whole[0] && apart[1] == sgd[1])
    #expect(apart[1] != whole[1] && apart[0] != sgd[0])
  }

  /// apex's LARC does not change a weight whose gradient is exactly 0; in the other variants decay shrinks it.
  @Test(arguments: LARS.RatePlacement.allCases, LARS.TrustRatio.allCases)
  func aGradientOfZero(rateIn: LARS.RatePlacement, ratio: LARS.TrustRatio) {
    let test = OptimizerCase()
    let parameters = ParameterSlab(test.layout)
    parameters.copy(test.start.parameters)
    LARS(decay: 0.05, trust: 0.02, rateIn: rateIn, ratio: ratio, exclude: [])
      .update(
        parameters, ParameterSlab(test.layout), state: [ParameterSlab(test.layout)], step: 0, rate: 0.5,
        Context(arena: Arena(reserving: 1 << 20)))
    for entry in test.layout.entries where entry.trains && entry.name != "zero.weight" {
      let isAlone = parameters.values(entry.slice) == test.start.parameters.values(entry.slice)
      #expect(isAlone == (rateIn == .outside && ratio == .separate && entry.adapts), "\(entry.name)")
    }
  }

  /// The four combinations differ once the rate changes.
  @Test func combinationsDiffer() {
    var results: [[UInt32]] = []
    let test = OptimizerCase()
    let context = Context(arena: Arena(reserving: 1 << 20))
    for rateIn in LARS.RatePlacement.allCases {
      for ratio in LARS.TrustRatio.allCases {
        let parameters = ParameterSlab(test.layout)
        let momentum = ParameterSlab(test.layout)
        parameters.copy(test.start.parameters)
        for step in 0..<5 {
          LARS(decay: 0.05, rateIn: rateIn, ratio: ratio)
            .update(
              parameters, test.gradients(step), state: [momentum], step: step, rate: OptimizerCase.rate(step), context)
        }
        results.append(parameters.bits)
      }
    }
    #expect(Set(results).count == 4)
  }

  @Test(arguments: [0, 1, 7, 8, 9, 100]) func normInDouble(count: Int) {
    var draws = Draws(test: "norm")
    let values = draws.normals(count).map { Float($0) * 1e20 }
    let expected = values.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
    #expect(abs(norm(values, count) - expected) <= 1e-14 * expected, "squares overflow Float, not Double")
  }

  @Test func exclusions() {
    #expect(ParameterKind.allOfThem.filter(Exclusion.normalisation.covers) == [.scale, .shift])
    #expect(ParameterKind.allOfThem.filter(Exclusion.bias.covers) == [.bias])
  }
}

extension ParameterKind {
  fileprivate static let allOfThem: [ParameterKind] = [.weight, .bias, .scale, .shift, .mean, .variance]
}
