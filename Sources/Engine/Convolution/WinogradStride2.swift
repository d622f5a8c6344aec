/// Stride 2. The outer taps of a kernel's line only meet odd samples of the input, the middle tap only even ones:
///
///     y_i = g₀·o_i + g₂·o_{i+1}  +  g₁·e_i          o_i = x[2i − 1], e_i = x[2i]
///
/// The first part is a convolution with stride 1 and two taps, F(4, 2): five products for four outputs. The second
/// takes four products, all with the same weight. That makes 81 products for 16 outputs of 9 taps: 9/16. Samples lie in
/// `d` as in the input, o₀ e₀ o₁ e₁ …; the five products come first, then the four.
///
/// The points of F(4, 2) are ±3/2, ±½, ∞: every coefficient is a dyadic fraction or a sixth of one, and the error is
/// the smallest of ten choices.
///
///         ⎡  1/6   1/4 ⎤          ⎡ -3/8  -1/4  3/2  1  0 ⎤          ⎡  1     1     1    1   0 ⎤
///         ⎢ -1/6   1/4 ⎥          ⎢  3/8  -1/4 -3/2  1  0 ⎥          ⎢ 3/2  -3/2    ½   -½   0 ⎥
///     K = ⎢  -½   -1/4 ⎥     T =  ⎢ -9/8  -9/4   ½   1  0 ⎥     S =  ⎢ 9/4   9/4   1/4  1/4  0 ⎥
///         ⎢   ½   -1/4 ⎥          ⎢  9/8  -9/4  -½   1  0 ⎥          ⎣ 27/8 -27/8  1/8 -1/8  1 ⎦
///         ⎣   0     1  ⎦          ⎣  9/16   0  -5/2  0  1 ⎦
///
/// A tile of three outputs leaves out the point -3/2, a tile of two ±3/2; of the last four products they take three and
/// two:
///
///         ⎡ -3/4   0    3   0 ⎤          ⎡  1    1    1   0 ⎤
///         ⎢ -3/2  -2    2   0 ⎥          ⎢ 3/2   ½   -½   0 ⎥         ⎡ -1   -2   0 ⎤         ⎡ 1   1   0 ⎤
///     T = ⎢  3/4  -2    1   0 ⎥      S = ⎣ 9/4  1/4  1/4  1 ⎦     T = ⎢  1   -2   0 ⎥     S = ⎣ ½  -½   1 ⎦
///         ⎣  3/8 -1/4 -3/2  1 ⎦                                       ⎣ -1/4  0   1 ⎦
///
/// The data gradient takes the same products from dy with the kernel rotated: the middle tap gives an even sample, and
/// F(4, 2) gives the odd samples, o_{i+1} = g₀'·dy_i + g₂'·dy_{i+1}.
enum WinogradStride2: WinogradScheme {
  static let advance = 8, margin = 1, turnedMargin = 0
  static func products(of weight: Int) -> Range<Int> { weight < 5 ? weight..<weight + 1 : 5..<9 }
  @inline(__always)
  static func uses(_ product: Int, tile: Int) -> Bool {
    product >= 5 ? product - 5 < tile : product > 1 || tile == 4 || product == 0 && tile == 3
  }

  /// T of `tile` + 1 samples.
  @inline(__always)
  private static func points(
    _ tile: Int, _ d: (Int) -> Lanes, step: Int, _ write: (Int, Lanes) -> Void
  ) {
    if tile < 4 {
      let d0 = d(0)
      let d1 = d(step)
      let d2 = d(2 * step)
      if tile == 2 {
        write(2, (-2 * d1) - d0)
        write(3, d0.addingProduct(-2, d1))
        write(4, d2.addingProduct(-0.25, d0))
      } else {
        write(0, (3 * d2).addingProduct(-0.75, d0))
        write(2, (2 * (d2 - d1)).addingProduct(-1.5, d0))
        write(3, d2.addingProduct(-2, d1).addingProduct(0.75, d0))
        write(4, d(3 * step).addingProduct(-1.5, d2).addingProduct(-0.25, d1).addingProduct(0.375, d0))
      }
      return
    }
    let d0 = d(0)
    let d1 = d(step)
    let d2 = d(2 * step)
    let d3 = d(3 * step)
    let even = d3.addingProduct(-0.25, d1)
    let odd = (1.5 * d2).addingProduct(-0.375, d0)
    let evenB = d3.addingProduct(-2.25, d1)
    let oddB = (0.5 * d2).addingProduct(-1.125, d0)
    write(0, even + odd)
    write(1, even - odd)
    write(2, evenB + oddB)
    write(3, evenB - oddB)
    write(4, d(4 * step).addingProduct(0.5625, d0).addingProduct(-2.5, d2))
  }

  /// S of up to five products.
  @inline(__always)
  private static func sums(
    _ tile: Int, _ m: (Int) -> Lanes
  ) -> (Lanes, Lanes, Lanes, Lanes) {
    if tile < 4 {
      let (m2, m3, m4) = (m(2), m(3), m(4))
      let sum = m2 + m3
      let difference = m2 - m3
      if tile == 2 { return (sum, m4.addingProduct(0.5, difference), .zero, .zero) }
      let m0 = m(0)
      return (
        sum + m0, (1.5 * m0).addingProduct(0.5, difference), m4.addingProduct(2.25, m0).addingProduct(0.25, sum), .zero
      )
    }
    let m0 = m(0)
    let m1 = m(1)
    let m2 = m(2)
    let m3 = m(3)
    let sum = m0 + m1
    let difference = m0 - m1
    let sumB = m2 + m3
    let differenceB = m2 - m3
    return (
      sum + sumB, (1.5 * difference).addingProduct(0.5, differenceB), (2.25 * sum).addingProduct(0.25, sumB),
      m(4).addingProduct(3.375, difference).addingProduct(0.125, differenceB)
    )
  }

  enum Input: LineTransform {
    static let inputs = 9, outputs = 9
    @inline(__always)
    static func apply(_ tile: Int, _ d: (Int) -> Lanes, _ write: (Int, Lanes) -> Void) {
      points(tile, d, step: 2, write)
      for i in 0..<tile { write(5 &+ i, d(2 &* i &+ 1)) }
    }
  }

  enum Output: LineTransform {
    static let inputs = 9, outputs = 4
    @inline(__always)
    static func apply(_ tile: Int, _ m: (Int) -> Lanes, _ write: (Int, Lanes) -> Void) {
      let y = sums(tile, m)
      write(0, y.0 + m(5))
      write(1, y.1 + m(6))
      if tile > 2 { write(2, y.2 + m(7)) }
      if tile > 3 { write(3, y.3 + m(8)) }
    }
  }

  enum Cotangent: LineTransform {
    static let inputs = 4, outputs = 9
    @inline(__always)
    static func apply(_ tile: Int, _ e: (Int) -> Lanes, _ write: (Int, Lanes) -> Void) {
      let e0 = e(0)
      let e1 = e(1)
      if tile < 4 {
        let odd = 0.5 * e1
        write(5, e0)
        write(6, e1)
        if tile == 2 {
          write(2, e0 + odd)
          write(3, e0 - odd)
          write(4, e1)
        } else {
          let e2 = e(2)
          let even = e0.addingProduct(0.25, e2)
          write(0, e0.addingProduct(1.5, e1).addingProduct(2.25, e2))
          write(2, even + odd)
          write(3, even - odd)
          write(4, e2)
          write(7, e2)
        }
        return
      }
      let e2 = e(2)
      let e3 = e(3)
      let even = e0.addingProduct(2.25, e2)
      let odd = (1.5 * e1).addingProduct(3.375, e3)
      let evenB = e0.addingProduct(0.25, e2)
      let oddB = (0.5 * e1).addingProduct(0.125, e3)
      write(0, even + odd)
      write(1, even - odd)
      write(2, evenB + oddB)
      write(3, evenB - oddB)
      write(4, e3)
      write(5, e0)
      write(6, e1)
      write(7, e2)
      write(8, e3)
    }
  }

  enum TurnedInput: LineTransform {
    static let inputs = 5, outputs = 9
    @inline(__always)
    static func apply(_ tile: Int, _ d: (Int) -> Lanes, _ write: (Int, Lanes) -> Void) {
      points(tile, d, step: 1, write)
      for i in 0..<tile { write(5 &+ i, d(i)) }
    }
  }

  enum TurnedOutput: LineTransform {
    static let inputs = 9, outputs = 8
    @inline(__always)
    static func apply(_ tile: Int, _ m: (Int) -> Lanes, _ write: (Int, Lanes) -> Void) {
      let odd = sums(tile, m)
      for i in 0..<tile { write(2 &* i, m(5 &+ i)) }
      write(1, odd.0)
      write(3, odd.1)
      if tile > 2 { write(5, odd.2) }
      if tile > 3 { write(7, odd.3) }
    }
  }

  enum Kernel: LineTransform {
    static let inputs = 3, outputs = 6
    @inline(__always)
    static func apply(_: Int, _ g: (Int) -> Lanes, _ write: (Int, Lanes) -> Void) {
      let (g0, g2) = (g(0), g(2))
      let sixth = g0 * (1 / 6)
      let half = g0 * 0.5
      let quarter = g2 * 0.25
      write(0, quarter + sixth)
      write(1, quarter - sixth)
      write(2, -quarter - half)
      write(3, half - quarter)
      write(4, g2)
      write(5, g(1))
    }
  }

  enum KernelGradient: LineTransform {
    static let inputs = 6, outputs = 3
    @inline(__always)
    static func apply(_: Int, _ u: (Int) -> Lanes, _ write: (Int, Lanes) -> Void) {
      let u0 = u(0)
      let u1 = u(1)
      let u2 = u(2)
      let u3 = u(3)
      write(0, ((u3 - u2) * 0.5).addingProduct(1 / 6, u0 - u1))
      write(1, u(5))
      write(2, u(4).addingProduct(0.25, (u0 + u1) - (u2 + u3)))
    }
  }
}
