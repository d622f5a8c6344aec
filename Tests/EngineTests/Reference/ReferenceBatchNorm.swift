/// Batch normalisation by its formula, in Double. Ioffe and Szegedy 2015, Algorithm 1; gradients as on its page 4.
struct ReferenceBatchNorm {
  /// (C) each.
  var gamma: [Double], beta: [Double]
  static let epsilon = 1e-5

  /// Statistics of every group, (G, C).
  struct Moments {
    var mean: [[Double]], variance: [[Double]]
    /// Number of rows in every group.
    var count: [Int]
  }

  /// The images of every group.
  private static func members(_ group: [Int]) -> [[Int]] {
    (0...(group.max() ?? 0)).map { g in group.indices.filter { group[$0] == g } }
  }

  private static func forEachRow(_ x: Map, _ images: [Int], _ body: (_ n: Int, _ h: Int, _ w: Int) -> Void) {
    for n in images { for h in 0..<x.h { for w in 0..<x.w { body(n, h, w) } } }
  }

  /// - group: the group of every image of x.
  static func moments(_ x: Map, _ group: [Int]) -> Moments {
    var result = Moments(mean: [], variance: [], count: [])
    for images in members(group) {
      let count = images.count * x.h * x.w
      var mean = [Double](repeating: 0, count: x.c)
      var variance = mean
      forEachRow(x, images) { n, h, w in for c in 0..<x.c { mean[c] += x[n, h, w, c] / Double(count) } }
      forEachRow(x, images) { n, h, w in
        for c in 0..<x.c { variance[c] += (x[n, h, w, c] - mean[c]) * (x[n, h, w, c] - mean[c]) / Double(count) }
      }
      result.mean.append(mean)
      result.variance.append(variance)
      result.count.append(count)
    }
    return result
  }

  /// r ← 0.9·r + 0.1·(mean over the groups), with the unbiased variance of each group.
  static func running(_ old: (mean: [Double], variance: [Double]), _ batch: Moments) -> (
    mean: [Double], variance: [Double]
  ) {
    var new = old
    let groups = Double(batch.count.count)
    for c in old.mean.indices {
      var mean = 0.0
      var variance = 0.0
      for g in batch.count.indices {
        let n = Double(batch.count[g])
        mean += batch.mean[g][c] / groups
        variance += batch.variance[g][c] * (n > 1 ? n / (n - 1) : 1) / groups
      }
      new.mean[c] = 0.9 * old.mean[c] + 0.1 * mean
      new.variance[c] = 0.9 * old.variance[c] + 0.1 * variance
    }
    return new
  }

  /// x̂ = (x − μ_g)/√(σ²_g + ε)
  func normalised(_ x: Map, _ group: [Int], _ moments: Moments) -> Map {
    var y = x
    Self.forEachRow(x, Array(0..<x.n)) { n, h, w in
      for c in 0..<x.c {
        let g = group[n]
        y[n, h, w, c] = (x[n, h, w, c] - moments.mean[g][c]) / (moments.variance[g][c] + Self.epsilon).squareRoot()
      }
    }
    return y
  }

  /// γ·x̂ + β
  func forward(_ x: Map, _ group: [Int], _ moments: Moments) -> Map {
    var y = normalised(x, group, moments)
    for i in y.values.indices { y.values[i] = gamma[i % x.c] * y.values[i] + beta[i % x.c] }
    return y
  }

  /// With statistics that depend on the batch, dx = γ/√(σ²+ε)·(dy − mean(dy) − x̂·mean(dy·x̂)) over each group; with
  /// frozen ones, dx = γ/√(σ²+ε)·dy.
  func backward(_ dy: Map, _ x: Map, _ group: [Int], _ moments: Moments, frozen: Bool = false)
    -> (dx: Map, dGamma: [Double], dBeta: [Double])
  {
    let unit = normalised(x, group, moments)
    var dx = Map(like: x)
    var dGamma = [Double](repeating: 0, count: x.c)
    var dBeta = dGamma
    for (g, images) in Self.members(group).enumerated() where !images.isEmpty {
      let count = Double(images.count * x.h * x.w)
      for c in 0..<x.c {
        var sum = 0.0
        var product = 0.0
        Self.forEachRow(x, images) { n, h, w in
          sum += dy[n, h, w, c]
          product += dy[n, h, w, c] * unit[n, h, w, c]
        }
        dBeta[c] += sum
        dGamma[c] += product
        let a = gamma[c] / (moments.variance[g][c] + Self.epsilon).squareRoot()
        Self.forEachRow(x, images) { n, h, w in
          dx[n, h, w, c] =
            frozen
            ? a * dy[n, h, w, c]
            : a * (dy[n, h, w, c] - sum / count - unit[n, h, w, c] * product / count)
        }
      }
    }
    return (dx, dGamma, dBeta)
  }
}
