/// Max-pooling, 3×3, stride 2, padding 1: the ImageNet stem's.
package enum MaxPool {
  package static func extent(of input: Int) -> Int { (input - 1) / 2 + 1 }

  /// - Parameters:
  ///   - x: (N, H, W, C).
  ///   - y: (N, ⌈H/2⌉, ⌈W/2⌉, C), overwritten.
  ///   - winner: which of the nine taps won, for backward; the first of equals, as torch.
  package static func forward(_ x: Tensor, into y: Tensor, winner: UnsafeMutablePointer<UInt8>?, _ context: Context) {
    precondition(y.h == extent(of: x.h) && y.w == extent(of: x.w) && y.c == x.c, "max-pool \(x.shape) into \(y.shape)")
    context.run(x.n) { image, _ in
      for oh in 0..<y.h {
        for ow in 0..<y.w {
          let out = ((image * y.h + oh) * y.w + ow) * y.c
          for c in 0..<y.c { y.data[out + c] = -.infinity }
          forEachTap(oh, ow, x) { tap, offset in
            let from = image * x.h * x.w * x.c + offset
            take(x.data + from, y.data + out, winner.map { $0 + out }, UInt8(tap), x.c)
          }
        }
      }
    }
  }

  /// dx is overwritten.
  package static func backward(_ dy: Tensor, winner: UnsafePointer<UInt8>, dx: Tensor, _ context: Context) {
    context.run(dx.n) { image, _ in
      (dx.data + image * dx.h * dx.w * dx.c).update(repeating: 0, count: dx.h * dx.w * dx.c)
      for oh in 0..<dy.h {
        for ow in 0..<dy.w {
          let out = ((image * dy.h + oh) * dy.w + ow) * dy.c
          forEachTap(oh, ow, dx) { tap, offset in
            let into = dx.data + image * dx.h * dx.w * dx.c + offset
            give(dy.data + out, winner + out, UInt8(tap), into, dx.c)
          }
        }
      }
    }
  }

  @inline(__always)
  private static func forEachTap(_ oh: Int, _ ow: Int, _ x: Tensor, _ body: (_ tap: Int, _ offset: Int) -> Void) {
    for r in 0..<3 {
      let h = 2 * oh + r - 1
      guard h >= 0 && h < x.h else { continue }
      for s in 0..<3 {
        let w = 2 * ow + s - 1
        if w >= 0 && w < x.w { body(r * 3 + s, (h * x.w + w) * x.c) }
      }
    }
  }

  @inline(__always)
  private static func take(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ winner: UnsafeMutablePointer<UInt8>?, _ tap: UInt8, _ count: Int) {
    var i = 0
    while i &+ 16 <= count {
      let value = x.lanes(i), best = y.lanes(i), wins = value .> best .| (value .!= value)
      y.store(best.replacing(with: value, where: wins), i)
      if let winner {
        let raw = UnsafeMutableRawPointer(winner + i)
        var taps = SIMD16<Int32>(truncatingIfNeeded: raw.loadUnaligned(as: SIMD16<UInt8>.self))
        taps.replace(with: Int32(tap), where: wins)
        raw.storeBytes(of: SIMD16<UInt8>(truncatingIfNeeded: taps), as: SIMD16<UInt8>.self)
      }
      i &+= 16
    }
    while i < count {
      if x[i] > y[i] || x[i].isNaN {
        y[i] = x[i]
        winner?[i] = tap
      }
      i &+= 1
    }
  }

  @inline(__always)
  private static func give(_ dy: UnsafePointer<Float>, _ winner: UnsafePointer<UInt8>, _ tap: UInt8, _ dx: UnsafeMutablePointer<Float>, _ count: Int) {
    var i = 0
    while i &+ 16 <= count {
      let taps = SIMD16<Int32>(truncatingIfNeeded: UnsafeRawPointer(winner + i).loadUnaligned(as: SIMD16<UInt8>.self))
      dx.store(dx.lanes(i) + Lanes16().replacing(with: dy.lanes(i), where: taps .== Int32(tap)), i)
      i &+= 16
    }
    while i < count {
      if winner[i] == tap { dx[i] += dy[i] }
      i &+= 1
    }
  }
}

/// The mean over height and width.
package enum AveragePool {
  /// - x: (N, H, W, C). y: (N, 1, 1, C), overwritten.
  package static func forward(_ x: Tensor, into y: Tensor, _ context: Context) {
    precondition(y.n == x.n && y.c == x.c && y.rowsPerImage == 1, "average pool \(x.shape) into \(y.shape)")
    context.run(x.n) { image, _ in
      let out = y.data + image * x.c
      out.update(repeating: 0, count: x.c)
      for row in 0..<x.rowsPerImage { out.add(x.data + (image * x.rowsPerImage + row) * x.c, count: x.c) }
      let scale = 1 / Float(x.rowsPerImage)
      for c in 0..<x.c { out[c] *= scale }
    }
  }

  /// dx is overwritten.
  package static func backward(_ dy: Tensor, dx: Tensor, _ context: Context) {
    context.run(dx.n) { image, _ in
      let scale = 1 / Float(dx.rowsPerImage), from = dy.data + image * dx.c
      for row in 0..<dx.rowsPerImage {
        let into = dx.data + (image * dx.rowsPerImage + row) * dx.c
        for c in 0..<dx.c { into[c] = scale * from[c] }
      }
    }
  }
}
