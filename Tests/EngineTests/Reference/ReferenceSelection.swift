import Foundation

/// Additional layers of SimCLR v2's encoder by their definitions, in Double: ResNet-D's mean over 2×2, and selective
/// kernels.
enum ReferenceSelection {
  /// The pixels of a mean: those of the 2×2 from (stride·oh, stride·ow) on that lie inside the image.
  private static func places(_ x: Map, _ oh: Int, _ ow: Int, _ stride: Int) -> [(Int, Int)] {
    [(0, 0), (0, 1), (1, 0), (1, 1)].map { (stride * oh + $0.0, stride * ow + $0.1) }.filter {
      $0.0 < x.h && $0.1 < x.w
    }
  }

  /// The divisor of a mean: with stride 2, pixels outside count as zeros; with stride 1 they do not count.
  private static func count(_ places: [(Int, Int)], _ stride: Int) -> Double { stride == 2 ? 4 : Double(places.count) }

  static func mean(_ x: Map, stride: Int) -> Map {
    var y = Map(n: x.n, h: (x.h + stride - 1) / stride, w: (x.w + stride - 1) / stride, c: x.c)
    for n in 0..<y.n {
      for oh in 0..<y.h {
        for ow in 0..<y.w {
          let places = places(x, oh, ow, stride)
          for c in 0..<x.c { y[n, oh, ow, c] = places.reduce(0) { $0 + x[n, $1.0, $1.1, c] } / count(places, stride) }
        }
      }
    }
    return y
  }

  static func meanBackward(_ dy: Map, stride: Int, like x: Map) -> Map {
    var dx = Map(like: x)
    for n in 0..<dy.n {
      for oh in 0..<dy.h {
        for ow in 0..<dy.w {
          let places = places(x, oh, ow, stride)
          for (h, w) in places { for c in 0..<x.c { dx[n, h, w, c] += dy[n, oh, ow, c] / count(places, stride) } }
        }
      }
    }
    return dx
  }

  /// s, (N, F), of streams (N, H, W, 2F): the sum of the streams, averaged over the pixels.
  static func pooled(_ x: Map) -> Map {
    let f = x.c / 2
    var s = Map(n: x.n, c: f)
    for n in 0..<x.n {
      for h in 0..<x.h {
        for w in 0..<x.w { for c in 0..<f { s[n, 0, 0, c] += (x[n, h, w, c] + x[n, h, w, f + c]) / Double(x.h * x.w) } }
      }
    }
    return s
  }

  static func pooledBackward(_ ds: Map, like x: Map) -> Map {
    var dx = Map(like: x)
    for n in 0..<x.n {
      for h in 0..<x.h {
        for w in 0..<x.w { for c in 0..<x.c { dx[n, h, w, c] = ds[n, 0, 0, c % ds.c] / Double(x.h * x.w) } }
      }
    }
    return dx
  }

  /// exp(e_i)/(exp(e₁) + exp(e₂)) of both streams, for image n and channel c.
  private static func weights(_ e: Map, _ n: Int, _ c: Int) -> [Double] {
    let terms = [exp(e[n, 0, 0, c]), exp(e[n, 0, 0, e.c / 2 + c])]
    return terms.map { $0 / (terms[0] + terms[1]) }
  }

  /// Sum of the streams, (N, H, W, 2F), weighted by the softmax over the streams of e, (N, 2F).
  static func mix(_ x: Map, _ e: Map) -> Map {
    let f = x.c / 2
    var y = Map(n: x.n, h: x.h, w: x.w, c: f)
    for n in 0..<x.n {
      for c in 0..<f {
        let a = weights(e, n, c)
        for h in 0..<x.h { for w in 0..<x.w { y[n, h, w, c] = a[0] * x[n, h, w, c] + a[1] * x[n, h, w, f + c] } }
      }
    }
    return y
  }

  /// da_i = Σ dy·x_i, and de_i = Σ_j da_j·a_j·(δ_ij − a_i).
  static func mixBackward(_ dy: Map, _ x: Map, _ e: Map) -> (dx: Map, dE: Map) {
    let f = x.c / 2
    var dx = Map(like: x)
    var dE = Map(like: e)
    for n in 0..<x.n {
      for c in 0..<f {
        let a = weights(e, n, c)
        var da = [0.0, 0.0]
        for h in 0..<x.h {
          for w in 0..<x.w {
            for i in 0..<2 {
              dx[n, h, w, i * f + c] = a[i] * dy[n, h, w, c]
              da[i] += dy[n, h, w, c] * x[n, h, w, i * f + c]
            }
          }
        }
        for i in 0..<2 { for j in 0..<2 { dE[n, 0, 0, i * f + c] += da[j] * a[j] * ((i == j ? 1 : 0) - a[i]) } }
      }
    }
    return (dx, dE)
  }
}
