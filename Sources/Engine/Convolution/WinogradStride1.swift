/// Stride 1, F(4×4, 3×3): 36 products for 16 outputs of 9 taps, a quarter.
///
/// The algorithm multiplies polynomials by their values at six points: here 0, ±a, ±b, ∞ with a = √2 and b = 1/a. The
/// largest error is a quarter of that with Lavin's 0, ±1, ±2, ∞ (and as small as with a = 3/2): powers of a stay near
/// 1, and a² = 2 and b² = ½ are exact.
///
///         ⎡ 1   0   0 ⎤          ⎡ 1   0  -5/2  0   1   0 ⎤          ⎡ 1    p    p    q    q   0 ⎤   p = a/6
///         ⎢ b   1   a ⎥          ⎢ 0  -b   -½   a   1   0 ⎥          ⎢ 0   1/3 -1/3 -1/3  1/3  0 ⎥   q = -a/3
///     K = ⎢ b  -1   a ⎥     T =  ⎢ 0   b   -½  -a   1   0 ⎥     S =  ⎢ 0   a/3  a/3 -b/3 -b/3  0 ⎥
///         ⎢ a   1   b ⎥          ⎢ 0  -a   -2   b   1   0 ⎥          ⎣ 0   2/3 -2/3 -1/6  1/6  1 ⎦
///         ⎢ a  -1   b ⎥          ⎢ 0   a   -2  -b   1   0 ⎥
///         ⎣ 0   0   1 ⎦          ⎣ 0   1    0 -5/2  0   1 ⎦
///
/// A tile of three outputs leaves out the point -b, a tile of two ±b:
///
///         ⎡ 1  -a  -½   b   0 ⎤     ⎡ 1  ½  -1/6 -2/3  0 ⎤         ⎡ 1  0  -½  0 ⎤     ⎡ 1  a/4  a/4  0 ⎤
///         ⎢ 0  -1   b   1   0 ⎥     ⎢ 0  b   a/6 -a/3  0 ⎥         ⎢ 0  a   1  0 ⎥     ⎣ 0   ½   -½   1 ⎦
///     T = ⎢ 0   1 -3b   1   0 ⎥  S =⎣ 0  1  -1/3 -1/3  1 ⎦     T = ⎢ 0 -a   1  0 ⎥  S =
///         ⎢ 0  -2   0   1   0 ⎥                                    ⎣ 0 -2   0  1 ⎦
///         ⎣ 0   a  -2  -b   1 ⎦
///
/// The data gradient applies the same matrices to dy.
enum WinogradStride1: WinogradScheme {
  typealias TurnedInput = Input
  typealias TurnedOutput = Output
  static let advance = 4, margin = 1, turnedMargin = 1
  static func products(of weight: Int) -> Range<Int> { weight..<weight + 1 }
  @inline(__always)
  static func uses(_ product: Int, tile: Int) -> Bool { tile == 4 || product != 4 && (tile == 3 || product != 3) }

  private static let a: Float = 1.4142135623730951, b: Float = 0.7071067811865476

  enum Input: LineTransform {
    static let inputs = 6, outputs = 6
    @inline(__always)
    static func apply(_ tile: Int, _ d: (Int) -> Lanes, _ write: (Int, Lanes) -> Void) {
      let d1 = d(1)
      let d2 = d(2)
      let d3 = d(3)
      if tile < 4 {
        if tile == 2 {
          write(0, d(0).addingProduct(-0.5, d2))
          write(1, d2.addingProduct(a, d1))
          write(2, d2.addingProduct(-a, d1))
          write(5, d3.addingProduct(-2, d1))
        } else {
          let difference = d3 - d1
          write(0, d(0).addingProduct(-a, d1).addingProduct(-0.5, d2).addingProduct(b, d3))
          write(1, difference.addingProduct(b, d2))
          write(2, (d1 + d3).addingProduct(-3 * b, d2))
          write(3, difference - d1)
          write(5, d(4).addingProduct(a, d1).addingProduct(-2, d2).addingProduct(-b, d3))
        }
        return
      }
      let d4 = d(4)
      let even = d4.addingProduct(-0.5, d2)
      let odd = (a * d3).addingProduct(-b, d1)
      let evenB = d4.addingProduct(-2, d2)
      let oddB = (b * d3).addingProduct(-a, d1)
      write(0, (d(0) + d4).addingProduct(-2.5, d2))
      write(1, even + odd)
      write(2, even - odd)
      write(3, evenB + oddB)
      write(4, evenB - oddB)
      write(5, (d1 + d(5)).addingProduct(-2.5, d3))
    }
  }

  enum Output: LineTransform {
    static let inputs = 6, outputs = 4
    @inline(__always)
    static func apply(_ tile: Int, _ m: (Int) -> Lanes, _ write: (Int, Lanes) -> Void) {
      let m1 = m(1)
      let m2 = m(2)
      if tile == 2 {
        write(0, m(0).addingProduct(a / 4, m1 + m2))
        write(1, m(5).addingProduct(0.5, m1 - m2))
        return
      }
      let m3 = m(3)
      if tile == 3 {
        write(0, m(0).addingProduct(0.5, m1).addingProduct(-1 / 6, m2).addingProduct(-2 / 3, m3))
        write(1, (m1 * b).addingProduct(a / 6, m2).addingProduct(-a / 3, m3))
        write(2, (m(5) + m1).addingProduct(-1 / 3, m2 + m3))
        return
      }
      let m4 = m(4)
      let sum = m1 + m2
      let difference = m1 - m2
      let sumB = m3 + m4
      let differenceB = m3 - m4
      write(0, m(0).addingProduct(a / 6, sum).addingProduct(-a / 3, sumB))
      write(1, (difference - differenceB) * (1 / 3))
      write(2, (sum * (a / 3)).addingProduct(-b / 3, sumB))
      write(3, m(5).addingProduct(2 / 3, difference).addingProduct(-1 / 6, differenceB))
    }
  }

  enum Cotangent: LineTransform {
    static let inputs = 4, outputs = 6
    @inline(__always)
    static func apply(_ tile: Int, _ e: (Int) -> Lanes, _ write: (Int, Lanes) -> Void) {
      let e0 = e(0)
      let e1 = e(1)
      if tile == 2 {
        let even = e0 * (a / 4)
        write(0, e0)
        write(1, even.addingProduct(0.5, e1))
        write(2, even.addingProduct(-0.5, e1))
        write(5, e1)
        return
      }
      let e2 = e(2)
      if tile == 3 {
        write(0, e0)
        write(1, e2.addingProduct(0.5, e0).addingProduct(b, e1))
        write(2, (e0 * (-1 / 6)).addingProduct(a / 6, e1).addingProduct(-1 / 3, e2))
        write(3, (e0 * (-2 / 3)).addingProduct(-a / 3, e1).addingProduct(-1 / 3, e2))
        write(5, e2)
        return
      }
      let e3 = e(3)
      let even = (e0 * (a / 6)).addingProduct(a / 3, e2)
      let odd = (e1 * (1 / 3)).addingProduct(2 / 3, e3)
      let evenB = (e0 * (-a / 3)).addingProduct(-b / 3, e2)
      let oddB = (e1 * (-1 / 3)).addingProduct(-1 / 6, e3)
      write(0, e0)
      write(1, even + odd)
      write(2, even - odd)
      write(3, evenB + oddB)
      write(4, evenB - oddB)
      write(5, e3)
    }
  }

  enum Kernel: LineTransform {
    static let inputs = 3, outputs = 6
    @inline(__always)
    static func apply(_: Int, _ g: (Int) -> Lanes, _ write: (Int, Lanes) -> Void) {
      let g0 = g(0)
      let g1 = g(1)
      let g2 = g(2)
      let even = (b * g0).addingProduct(a, g2)
      let evenB = (a * g0).addingProduct(b, g2)
      write(0, g0)
      write(1, even + g1)
      write(2, even - g1)
      write(3, evenB + g1)
      write(4, evenB - g1)
      write(5, g2)
    }
  }

  enum KernelGradient: LineTransform {
    static let inputs = 6, outputs = 3
    @inline(__always)
    static func apply(_: Int, _ u: (Int) -> Lanes, _ write: (Int, Lanes) -> Void) {
      let (u1, u2, u3, u4) = (u(1), u(2), u(3), u(4))
      let sum = u1 + u2
      let sumB = u3 + u4
      write(0, u(0).addingProduct(b, sum).addingProduct(a, sumB))
      write(1, (u1 - u2) + (u3 - u4))
      write(2, u(5).addingProduct(a, sum).addingProduct(b, sumB))
    }
  }
}
