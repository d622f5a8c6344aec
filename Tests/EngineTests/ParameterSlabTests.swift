import Engine
import Foundation
import Randomness
import Testing

extension ParameterSlab {
  /// Whether everything between the parameters is zero.
  var paddingIsZero: Bool {
    var covered = Set<Int>()
    for entry in layout.entries { covered.formUnion(entry.slice.offset..<entry.slice.offset + entry.slice.count) }
    return buffer.indices.allSatisfy { covered.contains($0) || data[$0].bitPattern == 0 }
  }
}

@Suite struct ParameterSlabTests {
  private func layout() -> ParameterLayout {
    var layout = ParameterLayout()
    for (name, shape) in [
      ("a.weight", [3, 5]), ("a.bias", [5]), ("b.weight", [16]), ("b.bias", [1]), ("c.weight", [2, 2, 7]),
    ] {
      _ = layout.add(name, shape, name.hasSuffix("bias") ? .bias : .weight, .normal(1))
    }
    return layout
  }

  @Test func everyParameterStartsOnACacheLine() {
    let layout = layout()
    let slab = ParameterSlab(layout)
    #expect(layout.entries.map(\.slice.count) == [15, 5, 16, 1, 28])
    #expect(layout.entries.map(\.slice.offset) == [0, 16, 32, 48, 64])
    #expect(layout.count == 96 && layout.parameterCount == 65)
    for entry in layout.entries { #expect(UInt(bitPattern: slab[entry.slice]) % 64 == 0) }
    #expect(slab.buffer.allSatisfy { $0 == 0 })
  }

  @Test func partsAreCountedWithoutPadding() {
    let layout = layout()
    #expect(layout.parts == ["a", "b", "c"])
    #expect(layout.entries(of: "a").map(\.name) == ["a.weight", "a.bias"] && layout.parameterCount(of: "a") == 20)
    #expect(layout.parameterCount(of: "b.weight") == 16 && layout.parameterCount(of: "d") == 0)
    #expect(layout.entry("b.bias")?.slice.offset == 48 && layout.entry("b") == nil)
  }

  @Test func namesAreUnique() async {
    silenceBacktraces()
    await #expect(processExitsWith: .failure) {
      var layout = ParameterLayout()
      _ = layout.add("a", [1], .weight, .constant(0))
      _ = layout.add("a", [2], .weight, .constant(0))
    }
  }

  @Test(arguments: [0, 0.5, 0.999, 1] as [Float]) func blendMovesTowardTheOther(m: Float) {
    let a = NetworkState(layout(), ParameterLayout())
    let b = NetworkState(layout(), ParameterLayout())
    a.initialise(seed: 1)
    b.initialise(seed: 2)
    let before = a.parameters.buffer.map(Double.init)
    let other = b.parameters.bits
    a.parameters.blend(toward: b.parameters, momentum: m)
    let expected = zip(before, b.parameters.buffer).map { Double(m) * $0 + (1 - Double(m)) * Double($1) }
    // Roundings of two products, a sum and 1 − m.
    let bound = zip(before, b.parameters.buffer).map { 3 * roundoff * (abs($0) + abs(Double($1))) + 1e-30 }
    #expect(worstRatio(a.parameters.buffer.map(Double.init), expected, bound).ratio <= 1)
    #expect(a.parameters.paddingIsZero && b.parameters.bits == other)
  }

  @Test func copyAndZero() {
    let a = NetworkState(layout(), ParameterLayout())
    let b = NetworkState(layout(), ParameterLayout())
    a.initialise(seed: 1)
    b.copy(a)
    #expect(b.parameters.bits == a.parameters.bits)
    b.parameters.zero()
    #expect(b.parameters.buffer.allSatisfy { $0 == 0 } && a.parameters.data[0] != 0)
  }
}

@Suite struct InitialisationTests {
  private func values(_ scheme: Initialisation, count: Int = 40_000, seed: UInt64 = 1, name: String = "w") -> [Double] {
    var values = [Float](repeating: .nan, count: count)
    values.withUnsafeMutableBufferPointer { scheme.fill($0, seed: seed, name: name) }
    return values.map(Double.init)
  }

  /// Mean, deviation and kurtosis of n draws; each lies within five standard errors of its expectation.
  private func expectMoments(_ x: [Double], deviation: Double, kurtosis: Double, _ what: String) {
    let n = Double(x.count)
    let mean = x.reduce(0, +) / n
    let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / n
    let fourth = x.reduce(0) { $0 + pow($1 - mean, 4) } / n / (variance * variance)
    #expect(abs(mean) < 5 * deviation / n.squareRoot(), "\(what): mean \(mean)")
    let error = ((kurtosis - 1) / n).squareRoot()
    #expect(abs(variance / (deviation * deviation) - 1) < 5 * error, "\(what): variance \(variance)")
    #expect(abs(fourth - kurtosis) < 5 * (96 / n).squareRoot(), "\(what): kurtosis \(fourth)")
  }

  @Test func momentsOfEveryScheme() {
    expectMoments(values(.normal(0.3)), deviation: 0.3, kurtosis: 3, "normal")
    expectMoments(values(.kaimingFanOut(9 * 64)), deviation: (2.0 / 576).squareRoot(), kurtosis: 3, "kaiming")
    expectMoments(values(.uniform(0.7)), deviation: 0.7 / 3.0.squareRoot(), kurtosis: 1.8, "uniform")
    let linear = values(.torchLinear(fanIn: 64))
    expectMoments(linear, deviation: 0.125 / 3.0.squareRoot(), kurtosis: 1.8, "torch linear")
    #expect(linear.allSatisfy { abs($0) <= 0.125 } && linear.contains { abs($0) > 0.1249 })
    // A normal cut at ±2 has deviation 0.87962566 and kurtosis 2.3655…
    expectMoments(values(.truncatedNormal(0.2)), deviation: 0.2 * 0.87962566103423978, kurtosis: 2.3655, "truncated")
    let scaled = values(.varianceScaling(fanIn: 50))
    expectMoments(scaled, deviation: (1.0 / 50).squareRoot(), kurtosis: 2.3655, "variance scaling")
    #expect(scaled.allSatisfy { abs($0) <= 2 * (1.0 / 50).squareRoot() / 0.8796 })
    #expect(values(.constant(1.5), count: 10) == [Double](repeating: 1.5, count: 10))
  }

  @Test func keyedBySeedAndName() {
    let one = values(.normal(1), count: 20)
    #expect(values(.normal(1), count: 20) == one)
    #expect(values(.normal(1), count: 20, seed: 2) != one)
    #expect(values(.normal(1), count: 20, name: "v") != one)
  }

  @Test func orderOfLayersDoesNotMatter() {
    let names = ["a", "b", "c"]
    func state(_ names: [String]) -> NetworkState {
      var layout = ParameterLayout()
      for name in names { _ = layout.add(name, [7], .weight, .normal(1)) }
      let state = NetworkState(layout, ParameterLayout())
      state.initialise(seed: 5)
      return state
    }
    let forth = state(names)
    let back = state(names.reversed())
    for name in names {
      #expect(
        forth.parameters.values(forth.parameters.layout.entry(name)!.slice)
          == back.parameters.values(back.parameters.layout.entry(name)!.slice))
    }
    #expect(forth.parameters.bits != back.parameters.bits)
  }

  /// Initial values of a residual network's parameters.
  @Test func networkStarts() {
    let network = Network(.init(.resnet18, width: 0.25, zeroInitLastBN: true), head: [.init(8, bias: true)])
    let state = network.makeState()
    state.initialise(seed: 3)
    for entry in network.parameters.entries {
      let values = state.parameters.values(entry.slice)
      switch entry.kind {
      case .scale: #expect(values.allSatisfy { $0 == (entry.name.hasSuffix("bn2.weight") ? 0 : 1) }, "\(entry.name)")
      case .shift: #expect(values.allSatisfy { $0 == 0 }, "\(entry.name)")
      case .bias:
        #expect(values.allSatisfy { abs($0) <= 1 / 128.0.squareRoot() } && rms(values) > 0.01, "\(entry.name)")
      default:
        guard entry.shape.count == 4 else { continue }
        let deviation = (2 / Double(entry.shape[0] * entry.shape[1] * entry.shape[3])).squareRoot()
        #expect(
          abs(rms(values) / deviation - 1) < 5 / (2 * Double(values.count)).squareRoot(),
          "\(entry.name): \(rms(values))")
      }
    }
    for entry in network.statistics.entries {
      #expect(state.statistics.values(entry.slice).allSatisfy { $0 == (entry.kind == .mean ? 0 : 1) }, "\(entry.name)")
    }
    #expect(state.parameters.paddingIsZero)
  }
}
