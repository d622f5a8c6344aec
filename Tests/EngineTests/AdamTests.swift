import Engine
import Foundation
import Randomness
import Testing

/// Adam against its definition in Double, on a parameter larger than a block of an elementwise pass and on a small one.
@Suite struct AdamTests {
  private static let layout = {
    var layout = ParameterLayout()
    _ = layout.add("large.weight", [200, 201], .weight, .normal(0.1))
    _ = layout.add("fc.bias", [5], .bias, .normal(1))
    return layout
  }()
  private static let rates: [Float] = [0.1, 0.05, 0.2, 0.01, 0.1]

  private static func gradients(_ step: Int) -> ParameterSlab {
    let slab = ParameterSlab(layout)
    for entry in layout.entries {
      var draws = Draws(test: "gradient of \(entry.name) at \(step)")
      for i in 0..<entry.slice.count { slab[entry.slice][i] = step == 2 ? 0 : Float(draws.normal()) }
    }
    return slab
  }

  /// Algorithm 1 of arXiv:1412.6980 for one number.
  private struct Reference {
    let adam: Adam
    var w: Double
    var m = 0.0
    var v = 0.0

    mutating func step(_ gradient: Double, t: Int, rate: Double, decay: Double) {
      var g = gradient
      if adam.decoupled { w -= rate * decay * w } else { g += decay * w }
      m = adam.beta1 * m + (1 - adam.beta1) * g
      v = adam.beta2 * v + (1 - adam.beta2) * g * g
      let mean = m / (1 - pow(adam.beta1, Double(t)))
      let square = v / (1 - pow(adam.beta2, Double(t)))
      w -= rate * mean / (square.squareRoot() + adam.epsilon)
    }
  }

  @Test(arguments: [0, 0.1], [false, true]) func equalsItsDefinition(decay: Double, decoupled: Bool) {
    var adam = Adam()
    adam.decay = decay
    adam.decoupled = decoupled
    adam.exclude = [.bias]
    let start = NetworkState(Self.layout, ParameterLayout())
    start.initialise(seed: 9)
    let results = [1, 3].map { threads in
      let context = Context(threads: threads, arena: Arena(reserving: 1 << 20))
      let parameters = ParameterSlab(Self.layout)
      let state = Adam.slabs.map { _ in ParameterSlab(Self.layout) }
      parameters.copy(start.parameters)
      for step in 0..<5 {
        adam.update(parameters, Self.gradients(step), state: state, step: step, rate: Self.rates[step], context)
      }
      #expect(parameters.paddingIsZero && state.allSatisfy(\.paddingIsZero))
      return parameters
    }
    #expect(results[0].bits == results[1].bits, "threads do not change a bit")
    for entry in Self.layout.entries {
      let decay = entry.kind == .bias ? 0 : decay
      var references = start.parameters.values(entry.slice).map { Reference(adam: adam, w: $0) }
      for step in 0..<5 {
        let gradients = Self.gradients(step).values(entry.slice)
        for i in references.indices {
          references[i].step(gradients[i], t: step + 1, rate: Double(Self.rates[step]), decay: decay)
        }
      }
      let found = results[0].values(entry.slice)
      // A step is at most about the rate, with about twenty roundings of it or of the weight.
      let worst = zip(found, references).map { abs($0 - $1.w) / (1 + abs($1.w)) }.max()!
      #expect(worst < 100 * roundoff, "\(entry.name): \(worst)")
    }
  }

  /// The first step moves a weight by the rate, independent of the gradient's size.
  @Test func theFirstStepIsTheRate() {
    let context = Context(arena: Arena(reserving: 1 << 20))
    let parameters = ParameterSlab(Self.layout)
    let gradients = Self.gradients(0)
    let state = Adam.slabs.map { _ in ParameterSlab(Self.layout) }
    Adam().update(parameters, gradients, state: state, step: 0, rate: 0.01, context)
    for entry in Self.layout.entries {
      for i in 0..<entry.slice.count {
        // g/(|g| + ε), which is nearly ±1.
        let g = gradients[entry.slice][i]
        let expected = -0.01 * g / (abs(g) + Float(Adam().epsilon))
        #expect(abs(parameters[entry.slice][i] - expected) < 0.01 * 8 * 0x1p-24)
      }
    }
  }
}
