import Engine
import Foundation
import Randomness
import Testing

/// The relative error of one rounding to Float: half of an ulp of 1.
let roundoff = 0x1p-24

/// The largest ratio of |found − expected| to its bound; infinite if a value is missing or not a number.
func worstRatio(_ found: [Double], _ expected: [Double], _ bound: [Double]) -> (ratio: Double, at: Int) {
  guard found.count == expected.count, bound.count == expected.count else { return (.infinity, -1) }
  var worst = (ratio: 0.0, at: 0)
  for i in found.indices {
    let difference = abs(found[i] - expected[i])
    let ratio = difference == 0 ? 0 : difference / bound[i]
    if !(ratio <= worst.ratio) { worst = (ratio.isNaN ? .infinity : ratio, i) }
  }
  return worst
}

/// Expects every element within its bound. The expected values must not all be near zero, because then all would pass.
func expectClose(
  _ found: some Sequence<Float>, _ expected: [Double], within bound: [Double], _ what: String,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  let found = found.map(Double.init)
  #expect(found.count == expected.count, "\(what): sizes", sourceLocation: sourceLocation)
  let (ratio, at) = worstRatio(found, expected, bound)
  let values = found.indices.contains(at) ? "\(found[at]) for \(expected[at]) ± \(bound[at])" : ""
  #expect(ratio <= 1, "\(what): \(ratio) times the bound at \(at): \(values)", sourceLocation: sourceLocation)
  #expect(
    expected.allSatisfy { $0 == 0 } || rms(expected) > 10 * rms(bound), "\(what): the bound hides the values",
    sourceLocation: sourceLocation)
}

/// rms(found − expected)/rms(expected)
func relativeError(_ found: [Double], _ expected: [Double]) -> Double {
  precondition(found.count == expected.count, "\(found.count) values for \(expected.count)")
  let error = rms(zip(found, expected).map { $0 - $1 })
  return error == 0 ? 0 : error / rms(expected)
}

extension Tensor {
  /// The elements as bits, so that NaN equals itself and −0 differs from 0.
  var bits: [UInt32] { buffer.map(\.bitPattern) }
}

extension ParameterSlab {
  var bits: [UInt32] { buffer.map(\.bitPattern) }
}

extension Draws {
  /// A stream for a named input of a test.
  init(test name: String, seed: UInt64 = 1) { self.init(seed: seed, .check, named: name) }

  mutating func normals(_ count: Int, deviation: Double = 1) -> [Double] {
    (0..<count).map { _ in deviation * normal() }
  }
}

extension Arena {
  /// A tensor of normal values.
  func normal(n: Int, h: Int = 1, w: Int = 1, c: Int, _ name: String, deviation: Double = 1, mean: Double = 0) -> Tensor
  {
    let result = tensor(n: n, h: h, w: w, c: c)
    var draws = Draws(test: name)
    for i in result.buffer.indices { result.buffer[i] = Float(mean + deviation * draws.normal()) }
    return result
  }

  /// A tensor of NaN, for results that must be overwritten.
  func poisoned(like other: Tensor) -> Tensor {
    let result = tensor(like: other)
    result.buffer.update(repeating: .nan)
    return result
  }

  func copy(_ other: Tensor) -> Tensor {
    let result = tensor(like: other)
    result.data.update(from: other.data, count: other.count)
    return result
  }
}

extension NetworkState {
  /// Sets all values at random, because a γ of 0 would hide a branch, and a running mean of 0 a shift.
  func randomise(seed: UInt64 = 1) {
    initialise(seed: seed)
    for slab in [parameters, statistics] {
      for entry in slab.layout.entries {
        var draws = Draws(test: entry.name, seed: seed)
        for i in 0..<entry.slice.count {
          switch entry.kind {
          case .weight: break
          case .scale: slab[entry.slice][i] = Float((draws.chance(0.2) ? -1 : 1) * draws.uniform(in: 0.5...1.5))
          case .bias, .shift, .mean: slab[entry.slice][i] = Float(0.3 * draws.normal())
          case .variance: slab[entry.slice][i] = Float(draws.uniform(in: 0.5...2))
          }
        }
      }
    }
  }
}

/// Positions of the global batch that a rank owns.
func positions(of count: Int, rank: Int, ranks: Int) -> Range<Int> { rank * count / ranks..<(rank + 1) * count / ranks }

/// Disables backtraces, which take seconds in processes that stop on purpose.
func silenceBacktraces() { setenv("SWIFT_BACKTRACE", "enable=no", 1) }
