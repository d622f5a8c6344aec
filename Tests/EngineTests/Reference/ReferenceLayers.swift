import Foundation

/// The other layers by their definitions, in Double.
enum ReferenceLayers {
  /// y = x·W + b; x (N, in), W (in, out) row by row, b (out).
  static func linear(_ x: Map, _ weight: [Double], _ bias: [Double]?) -> Map {
    let outputs = weight.count / x.c
    var y = Map(n: x.n, c: outputs)
    for n in 0..<x.n {
      for k in 0..<outputs {
        var sum = bias?[k] ?? 0
        for i in 0..<x.c { sum += x.values[n * x.c + i] * weight[i * outputs + k] }
        y.values[n * outputs + k] = sum
      }
    }
    return y
  }

  static func linearBackward(_ dy: Map, _ x: Map, _ weight: [Double]) -> (dx: Map, dWeight: [Double], dBias: [Double]) {
    var dx = Map(like: x)
    var dWeight = [Double](repeating: 0, count: weight.count)
    var dBias = [Double](repeating: 0, count: dy.c)
    for n in 0..<x.n {
      for k in 0..<dy.c {
        let d = dy.values[n * dy.c + k]
        dBias[k] += d
        for i in 0..<x.c {
          dx.values[n * x.c + i] += d * weight[i * dy.c + k]
          dWeight[i * dy.c + k] += d * x.values[n * x.c + i]
        }
      }
    }
    return (dx, dWeight, dBias)
  }

  /// max(0, x + residual)
  static func reluOfSum(_ x: Map, _ residual: Map?) -> Map {
    var y = x
    for i in y.values.indices { y.values[i] = max(0, x.values[i] + (residual?.values[i] ?? 0)) }
    return y
  }

  /// The gradient of both summands: dy where y > 0.
  static func reluBackward(_ dy: Map, _ y: Map) -> Map {
    var dx = dy
    for i in dx.values.indices where y.values[i] <= 0 { dx.values[i] = 0 }
    return dx
  }

  /// Positions in x of one output's taps that lie inside the image, in the order of the kernel.
  private static func taps(_ x: Map, _ oh: Int, _ ow: Int) -> [(Int, Int)] {
    var result: [(Int, Int)] = []
    for h in (2 * oh - 1)...(2 * oh + 1) {
      for w in (2 * ow - 1)...(2 * ow + 1) where h >= 0 && h < x.h && w >= 0 && w < x.w { result.append((h, w)) }
    }
    return result
  }

  /// Max-pooling 3×3, stride 2, padding 1; the first of equal values wins.
  /// - Returns: the output and, for each of its elements, the index of the maximum in x.
  static func maxPool(_ x: Map) -> (y: Map, winner: [Int]) {
    var y = Map(n: x.n, h: (x.h + 2 - 3) / 2 + 1, w: (x.w + 2 - 3) / 2 + 1, c: x.c)
    var winner: [Int] = []
    for n in 0..<x.n {
      for oh in 0..<y.h {
        for ow in 0..<y.w {
          for c in 0..<x.c {
            var best = (value: -Double.infinity, place: -1)
            for (h, w) in taps(x, oh, ow) where x[n, h, w, c] > best.value {
              best = (x[n, h, w, c], ((n * x.h + h) * x.w + w) * x.c + c)
            }
            y[n, oh, ow, c] = best.value
            winner.append(best.place)
          }
        }
      }
    }
    return (y, winner)
  }

  static func maxPoolBackward(_ dy: Map, _ winner: [Int], like x: Map) -> Map {
    var dx = Map(like: x)
    for (i, place) in winner.enumerated() { dx.values[place] += dy.values[i] }
    return dx
  }

  static func averagePool(_ x: Map) -> Map {
    var y = Map(n: x.n, c: x.c)
    for n in 0..<x.n {
      for h in 0..<x.h { for w in 0..<x.w { for c in 0..<x.c { y[n, 0, 0, c] += x[n, h, w, c] / Double(x.h * x.w) } } }
    }
    return y
  }

  static func averagePoolBackward(_ dy: Map, like x: Map) -> Map {
    var dx = Map(like: x)
    for n in 0..<x.n {
      for h in 0..<x.h { for w in 0..<x.w { for c in 0..<x.c { dx[n, h, w, c] = dy[n, 0, 0, c] / Double(x.h * x.w) } } }
    }
    return dx
  }

  /// z/‖z‖ of every row.
  static func normalise(_ z: Map) -> Map {
    var unit = z
    for n in 0..<z.n {
      let norm = z.row(n).reduce(0) { $0 + $1 * $1 }.squareRoot()
      for i in 0..<z.c { unit.values[n * z.c + i] /= norm }
    }
    return unit
  }

  /// dz_i = Σ_j dẑ_j·∂ẑ_j/∂z_i with ∂ẑ_j/∂z_i = δ_ij/‖z‖ − z_i·z_j/‖z‖³
  static func normaliseBackward(_ d: Map, _ z: Map) -> Map {
    var dz = Map(like: z)
    for n in 0..<z.n {
      let row = z.row(n)
      let norm = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
      for i in 0..<z.c {
        for j in 0..<z.c {
          let jacobian = (i == j ? 1 / norm : 0) - row[i] * row[j] / (norm * norm * norm)
          dz.values[n * z.c + i] += d.values[n * z.c + j] * jacobian
        }
      }
    }
    return dz
  }
}
