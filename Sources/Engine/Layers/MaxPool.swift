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
          let lines = max(0, 2 * oh - 1)..<min(x.h, 2 * oh + 2)
          let columns = max(0, 2 * ow - 1)..<min(x.w, 2 * ow + 2)
          largest(
            of: x, image: image, lines: lines, columns: columns,
            firstTap: (lines.lowerBound - 2 * oh + 1) * 3 - 2 * ow + 1,
            into: y.data + out, winner: winner.map { $0 + out })
        }
      }
    }
  }

  /// The largest of some lines and columns by channel, eight channels in registers at a time.
  @inline(__always)
  private static func largest(
    of x: Tensor, image: Int, lines: Range<Int>, columns: Range<Int>, firstTap: Int,
    into y: UnsafeMutablePointer<Float>, winner: UnsafeMutablePointer<UInt8>?
  ) {
    let c = x.c
    let image = UnsafePointer(x.data + image * x.h * x.w * c)
    var channel = 0
    while channel &+ 8 <= c {
      var best = SIMD8<Float>(repeating: -.infinity)
      var taps = SIMD8<Int32>.zero
      var first = firstTap
      for line in lines {
        for column in columns {
          let from = image + ((line &* x.w &+ column) &* c &+ channel)
          let value = UnsafeRawPointer(from).loadUnaligned(as: SIMD8<Float>.self)
          let wins = (value .> best) .| (value .!= value)
          best.replace(with: value, where: wins)
          taps.replace(with: Int32(truncatingIfNeeded: first &+ column), where: wins)
        }
        first &+= 3
      }
      UnsafeMutableRawPointer(y + channel).storeBytes(of: best, as: SIMD8<Float>.self)
      if let winner { for i in 0..<8 { winner[channel &+ i] = UInt8(truncatingIfNeeded: taps[i]) } }
      channel &+= 8
    }
    while channel < c {
      var best = -Float.infinity
      var first = firstTap
      winner?[channel] = UInt8(first &+ columns.lowerBound)
      for line in lines {
        for column in columns {
          let value = image[(line &* x.w &+ column) &* c &+ channel]
          if value > best || value.isNaN {
            best = value
            winner?[channel] = UInt8(first &+ column)
          }
        }
        first &+= 3
      }
      y[channel] = best
      channel &+= 1
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
            give(dy.data + out, won: winner + out, by: UInt8(tap), to: into, count: dx.c)
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
  private static func give(
    _ dy: UnsafePointer<Float>, won winner: UnsafePointer<UInt8>, by tap: UInt8, to dx: UnsafeMutablePointer<Float>,
    count: Int
  ) {
    // A plain loop: the compiler vectorises it, bytes and floats together, which SIMD types do not.
    for i in 0..<count { dx[i] += winner[i] == tap ? dy[i] : 0 }
  }
}
