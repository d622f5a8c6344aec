import Engine
import Randomness

/// Division of a batch into groups and views.
struct Division: Sendable, CustomStringConvertible {
  var kind: NormalisationGroups
  var batch: Int
  var views = 1
  /// The place of every position in the shuffled batch.
  var order: [Int]?
  var description: String { "\(kind), \(batch) images, \(views) views\(order.map { ", order \($0)" } ?? "")" }

  /// Groups start at ⌈g·B/G⌉, so their sizes differ by at most one.
  func group(ofPosition position: Int) -> Int {
    let count = kind.count(batch: batch)
    let place = order?[position] ?? position
    return (0..<count).last { ($0 * batch + count - 1) / count <= place }!
  }

  /// Groups of all images of the whole batch, ordered by view.
  var groups: [Int] { (0..<views).flatMap { _ in (0..<batch).map(group) } }

  static let all: [Division] = [
    .init(kind: .global, batch: 5),
    .init(kind: .global, batch: 7, views: 2),
    .init(kind: .group(images: 2), batch: 6),
    .init(kind: .group(images: 2), batch: 7),
    .init(kind: .group(images: 3), batch: 7, views: 2),
    .init(kind: .group(images: 8), batch: 5),
    .init(kind: .shuffle(images: 2), batch: 7, order: [3, 0, 6, 1, 5, 2, 4]),
    .init(kind: .shuffle(images: 3), batch: 6, views: 2, order: [5, 2, 0, 3, 1, 4]),
  ]
}

/// A batch normalisation with random input, residual and cotangent of the whole batch, its reference, and the bounds.
///
/// Bounds: the engine sums x − s (s: the running mean) in Float over 32 rows at most, then in Double. With u the
/// roundoff, m₁ = mean|x−s| and m₂ = mean (x−s)², the mean is off by δμ ≤ 33u·m₁ + u|μ| and the variance by
/// δσ² ≤ 34u·m₂ + 66u·|μ−s|·m₁, so x̂ by δx̂ ≤ δμ/σ + |x̂|·ρ with ρ = δσ²/2(σ²+ε) + 4u. The rest is one rounding per
/// operation.
struct NormCase: Sendable {
  let division: Division, h: Int, w: Int, c: Int, frozen: Bool, relu: Bool
  let x: Map, residual: Map?, dy: Map
  let layer: ReferenceBatchNorm
  let running: (mean: [Double], variance: [Double])
  let groups: [Int], moments: ReferenceBatchNorm.Moments
  /// Bounds of the mean and of the variance, and the relative bound of 1/σ; (G, C).
  private(set) var dMean: [[Double]] = [], dVariance: [[Double]] = [], rho: [[Double]] = []

  init(_ division: Division, h: Int, w: Int, c: Int, frozen: Bool = false, relu: Bool = true, residual: Bool = true) {
    self.division = division
    self.h = h
    self.w = w
    self.c = c
    self.frozen = frozen
    self.relu = relu
    var draws = Draws(test: "norm \(division) \(h) \(w) \(c)")
    func rounded(_ values: [Double]) -> [Double] { values.map { Double(Float($0)) } }
    let n = division.batch * division.views
    let count = n * h * w * c
    let centre = draws.normals(c)
    let size = (0..<c).map { _ in draws.uniform(in: 0.3...2) }
    x = Map(n: n, h: h, w: w, c: c, rounded((0..<count).map { centre[$0 % c] + size[$0 % c] * draws.normal() }))
    self.residual = residual ? Map(n: n, h: h, w: w, c: c, rounded(draws.normals(count))) : nil
    dy = Map(n: n, h: h, w: w, c: c, rounded(draws.normals(count)))
    layer = ReferenceBatchNorm(
      gamma: rounded((0..<c).map { _ in (draws.chance(0.3) ? -1 : 1) * draws.uniform(in: 0.5...1.5) }),
      beta: rounded(draws.normals(c)))
    running = (rounded(draws.normals(c, deviation: 0.5)), rounded((0..<c).map { _ in draws.uniform(in: 0.5...2) }))
    groups = frozen ? (0..<n).map { _ in 0 } : division.groups
    moments =
      frozen
      ? .init(mean: [running.mean], variance: [running.variance], count: [1]) : ReferenceBatchNorm.moments(x, groups)
    for g in moments.count.indices {
      let bounds = (0..<c).map { frozen ? SIMD3(0, 0, 4 * roundoff) : errors(g, $0) }
      dMean.append(bounds.map(\.x))
      dVariance.append(bounds.map(\.y))
      rho.append(bounds.map(\.z))
    }
  }

  private func errors(_ g: Int, _ c: Int) -> SIMD3<Double> {
    let u = roundoff
    let centre = moments.mean[g][c]
    var m1 = 0.0
    var m2 = 0.0
    for i in x.values.indices where i % x.c == c && groups[i / (h * w * x.c)] == g {
      let difference = abs(x.values[i] - running.mean[c])
      m1 += difference / Double(moments.count[g])
      m2 += difference * difference / Double(moments.count[g])
    }
    let variance = 34 * u * m2 + 66 * u * abs(centre - running.mean[c]) * m1
    return SIMD3(33 * u * m1 + u * abs(centre), variance, variance / (2 * (moments.variance[g][c] + 1e-5)) + 4 * u)
  }

  private func inverse(_ g: Int, _ c: Int) -> Double { 1 / (moments.variance[g][c] + 1e-5).squareRoot() }

  /// Bound of x̂ at every element.
  private var dUnit: [Double] {
    let unit = layer.normalised(x, groups, moments).values
    return unit.indices.map { i in
      let g = groups[i / (h * w * c)]
      return dMean[g][i % c] * inverse(g, i % c) + abs(unit[i]) * rho[g][i % c]
    }
  }

  func expectedForward() -> (y: [Double], bound: [Double]) {
    let plain = layer.forward(x, groups, moments)
    let d = dUnit
    let sum = zip(plain.values, residual?.values ?? plain.values.map { _ in 0 })
    let bound = plain.values.indices.map { i in
      abs(layer.gamma[i % c]) * d[i] + 3 * roundoff
        * (abs(plain.values[i]) + abs(layer.beta[i % c]) + abs(residual?.values[i] ?? 0))
    }
    return (sum.map { relu ? max(0, $0 + $1) : $0 + $1 }, bound)
  }

  func expectedRunning() -> (mean: [Double], variance: [Double], meanBound: [Double], varianceBound: [Double]) {
    guard !frozen else {
      return (running.mean, running.variance, running.mean.map { _ in 0 }, running.mean.map { _ in 0 })
    }
    let new = ReferenceBatchNorm.running(running, moments)
    return (
      new.mean, new.variance,
      (0..<c).map { c in 0.1 * dMean.map { $0[c] }.max()! + roundoff * abs(new.mean[c]) },
      (0..<c).map { c in 0.2 * dVariance.map { $0[c] }.max()! + roundoff * new.variance[c] }
    )
  }

  struct Gradients {
    var dx: [Double], dxBound: [Double], dGamma: [Double], dGammaBound: [Double], dBeta: [Double], dBetaBound: [Double]
  }

  /// - mask: where the engine's y is above 0, so that rounding at a ReLU's kink does not matter.
  func expectedBackward(mask: [Bool]) -> Gradients {
    let u = roundoff
    var masked = dy
    if relu { for i in mask.indices where !mask[i] { masked.values[i] = 0 } }
    let exact = layer.backward(masked, x, groups, moments, frozen: frozen)
    let unit = layer.normalised(x, groups, moments).values
    let d = dUnit
    // Per group and channel: Σ|dy|, Σ|dy·x̂|, Σ|dy|·δx̂, and mean(dy·x̂).
    var sums = Array(repeating: Array(repeating: SIMD4<Double>(), count: c), count: moments.count.count)
    for i in unit.indices {
      let v = masked.values[i]
      sums[groups[i / (h * w * c)]][i % c] += SIMD4(abs(v), abs(v * unit[i]), abs(v) * d[i], v * unit[i])
    }
    let bound = unit.indices.map { i in
      let g = groups[i / (h * w * c)]
      let c = i % c
      let s = sums[g][c]
      let count = Double(moments.count[g])
      let v = abs(masked.values[i])
      let a = abs(layer.gamma[c]) * inverse(g, c)
      if frozen { return a * v * 8 * u }
      let dK = s[2] / count + 34 * u * s[1] / count
      let k = abs(s[3]) / count
      let size = v + s[0] / count + abs(unit[i]) * s[1] / count
      return a * ((rho[g][c] * 2 + 8 * u) * size + 34 * u * s[0] / count + abs(unit[i]) * dK + k * d[i])
    }
    func total(_ f: (SIMD4<Double>) -> Double) -> [Double] { (0..<c).map { c in sums.reduce(0) { $0 + f($1[c]) } } }
    return Gradients(
      dx: exact.dx.values, dxBound: bound, dGamma: exact.dGamma, dGammaBound: total { $0[2] + 35 * u * $0[1] },
      dBeta: exact.dBeta, dBetaBound: total { 35 * u * $0[0] })
  }
}
