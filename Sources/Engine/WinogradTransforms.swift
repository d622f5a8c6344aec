/// Winograd's minimal filtering F(4×4, 3×3) (Lavin and Gray 2016, arXiv:1509.09308): a 4×4 tile of a 3×3 convolution's
/// output from a 6×6 patch of its input by 36 products instead of 144:
///
///     Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A          g the 3×3 kernel, d the patch
///
/// It multiplies polynomials by their values at six points: here 0, ±a, ±b, ∞ with a = √2 and b = 1/a. The greatest error
/// is a quarter of that with Lavin's 0, ±1, ±2, ∞ (and as small as with a = 3/2): powers of a stay near 1, and
/// a², b² = 2, ½ are exact.
///
///         ⎡ 1   0   0 ⎤          ⎡ 1   0  -5/2  0   1   0 ⎤          ⎡ 1    p    p    q    q   0 ⎤   p = a/6
///         ⎢ b   1   a ⎥          ⎢ 0  -b   -½   a   1   0 ⎥          ⎢ 0   1/3 -1/3 -1/3  1/3  0 ⎥   q = -a/3
///     G = ⎢ b  -1   a ⎥    Bᵀ =  ⎢ 0   b   -½  -a   1   0 ⎥    Aᵀ =  ⎢ 0   a/3  a/3 -b/3 -b/3  0 ⎥
///         ⎢ a   1   b ⎥          ⎢ 0  -a   -2   b   1   0 ⎥          ⎣ 0   2/3 -2/3 -1/6  1/6  1 ⎦
///         ⎢ a  -1   b ⎥          ⎢ 0   a   -2  -b   1   0 ⎥
///         ⎣ 0   0   1 ⎦          ⎣ 0   1    0 -5/2  0   1 ⎦
///
/// The weight gradient is the transpose of the same form: dg = Gᵀ [ Σ (A dY Aᵀ) ⊙ (Bᵀ d B) ] G.
///
/// All are vectorised over eight channels: a one-dimensional transform then lives in 16 registers. `work` holds the 36
/// values between the columns' pass and the rows' pass.
enum Winograd {
  typealias Lanes = SIMD8<Float>
  typealias Line = (UnsafePointer<Float>, UnsafePointer<Float>, UnsafePointer<Float>, UnsafePointer<Float>)
  typealias Patch = (
    UnsafePointer<Float>, UnsafePointer<Float>, UnsafePointer<Float>, UnsafePointer<Float>, UnsafePointer<Float>,
    UnsafePointer<Float>
  )
  /// Outputs of a tile in one direction, and inputs that it looks at.
  static let tile = 4, patch = 6
  static let points = 36, lanes = 8

  private static let a: Float = 1.4142135623730951, b: Float = 0.7071067811865476

  // MARK: One dimension

  /// Bᵀ d
  @inline(__always)
  private static func input(
    _ d0: Lanes, _ d1: Lanes, _ d2: Lanes, _ d3: Lanes, _ d4: Lanes, _ d5: Lanes
  ) -> (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes) {
    let even = d4.addingProduct(-0.5, d2), odd = (a * d3).addingProduct(-b, d1)
    let evenB = d4.addingProduct(-2, d2), oddB = (b * d3).addingProduct(-a, d1)
    return (
      (d0 + d4).addingProduct(-2.5, d2), even + odd, even - odd, evenB + oddB, evenB - oddB,
      (d1 + d5).addingProduct(-2.5, d3)
    )
  }

  /// Aᵀ m
  @inline(__always)
  private static func output(
    _ m0: Lanes, _ m1: Lanes, _ m2: Lanes, _ m3: Lanes, _ m4: Lanes, _ m5: Lanes
  ) -> (Lanes, Lanes, Lanes, Lanes) {
    let sum = m1 + m2, difference = m1 - m2, sumB = m3 + m4, differenceB = m3 - m4
    return (
      m0.addingProduct(a / 6, sum).addingProduct(-a / 3, sumB), (difference - differenceB) * (1 / 3),
      (sum * (a / 3)).addingProduct(-b / 3, sumB),
      m5.addingProduct(2 / 3, difference).addingProduct(-1 / 6, differenceB)
    )
  }

  /// A e
  @inline(__always)
  private static func cotangent(
    _ e0: Lanes, _ e1: Lanes, _ e2: Lanes, _ e3: Lanes
  ) -> (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes) {
    let even = (e0 * (a / 6)).addingProduct(a / 3, e2), odd = (e1 * (1 / 3)).addingProduct(2 / 3, e3)
    let evenB = (e0 * (-a / 3)).addingProduct(-b / 3, e2), oddB = (e1 * (-1 / 3)).addingProduct(-1 / 6, e3)
    return (e0, even + odd, even - odd, evenB + oddB, evenB - oddB, e3)
  }

  /// G g
  @inline(__always)
  private static func kernel(_ g0: Lanes, _ g1: Lanes, _ g2: Lanes) -> (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes) {
    let even = (b * g0).addingProduct(a, g2), evenB = (a * g0).addingProduct(b, g2)
    return (g0, even + g1, even - g1, evenB + g1, evenB - g1, g2)
  }

  /// Gᵀ u
  @inline(__always)
  private static func kernelGradient(
    _ u0: Lanes, _ u1: Lanes, _ u2: Lanes, _ u3: Lanes, _ u4: Lanes, _ u5: Lanes
  ) -> (Lanes, Lanes, Lanes) {
    let sum = u1 + u2, sumB = u3 + u4
    return (
      u0.addingProduct(b, sum).addingProduct(a, sumB), (u1 - u2) + (u3 - u4),
      u5.addingProduct(a, sum).addingProduct(b, sumB)
    )
  }

  // MARK: Tiles

  /// v[point] ← Bᵀ d B for one patch: `rows` are its lines, of which `columns` lie in the image; `step` floats are
  /// between two points of `v`.
  static func transformInput(
    _ rows: Patch, columns: Range<Int>, channels: Int, into v: UnsafeMutablePointer<Float>, step: Int,
    _ work: UnsafeMutablePointer<Lanes>
  ) {
    if columns.count < patch { for i in 0..<points { work[i] = .zero } }
    var channel = 0
    while channel < channels {
      for j in columns {
        let at = j &* channels &+ channel
        let t = input(
          load(rows.0 + at), load(rows.1 + at), load(rows.2 + at), load(rows.3 + at), load(rows.4 + at),
          load(rows.5 + at))
        (work[j], work[j &+ 6], work[j &+ 12], work[j &+ 18], work[j &+ 24], work[j &+ 30]) = t
      }
      storeSquare(work, v + channel, step) { input($0, $1, $2, $3, $4, $5) }
      channel &+= lanes
    }
  }

  /// e[point] ← A dY Aᵀ for one tile of a cotangent.
  static func transformCotangent(
    _ rows: Line, columns: Range<Int>, channels: Int, into e: UnsafeMutablePointer<Float>, step: Int,
    _ work: UnsafeMutablePointer<Lanes>
  ) {
    if columns.count < tile { for i in 0..<points { work[i] = .zero } }
    var channel = 0
    while channel < channels {
      for j in columns {
        let at = j &* channels &+ channel
        let t = cotangent(load(rows.0 + at), load(rows.1 + at), load(rows.2 + at), load(rows.3 + at))
        (work[j], work[j &+ 6], work[j &+ 12], work[j &+ 18], work[j &+ 24], work[j &+ 30]) = t
      }
      storeSquare(work, e + channel, step) { e0, e1, e2, e3, _, _ in cotangent(e0, e1, e2, e3) }
      channel &+= lanes
    }
  }

  @inline(__always)
  private static func storeSquare(
    _ work: UnsafeMutablePointer<Lanes>, _ v: UnsafeMutablePointer<Float>, _ step: Int,
    _ transform: (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes) -> (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes)
  ) {
    var (row, to) = (work, v)
    for _ in 0..<patch {
      let t = transform(row[0], row[1], row[2], row[3], row[4], row[5])
      store(t.0, to)
      store(t.1, to + step)
      store(t.2, to + 2 &* step)
      store(t.3, to + 3 &* step)
      store(t.4, to + 4 &* step)
      store(t.5, to + 5 &* step)
      row += patch
      to += patch &* step
    }
  }

  /// y ← Aᵀ m A for one tile, of which `height` lines of `line` floats and `width` columns lie in the image.
  static func transformOutput(
    _ m: UnsafePointer<Float>, step: Int, channels: Int, into y: UnsafeMutablePointer<Float>, line: Int, height: Int,
    width: Int, accumulate: Bool, _ work: UnsafeMutablePointer<Lanes>
  ) {
    var channel = 0
    while channel < channels {
      for j in 0..<patch {
        let from = m + (j &* step &+ channel), down = patch &* step
        let t = output(
          load(from), load(from + down), load(from + 2 &* down), load(from + 3 &* down), load(from + 4 &* down),
          load(from + 5 &* down))
        (work[j], work[j &+ 6], work[j &+ 12], work[j &+ 18]) = t
      }
      for i in 0..<height {
        let row = work + i &* patch, to = y + (i &* line &+ channel)
        var t = output(row[0], row[1], row[2], row[3], row[4], row[5])
        if accumulate {
          t.0 += load(to)
          if width > 1 { t.1 += load(to + channels) }
          if width > 2 { t.2 += load(to + 2 &* channels) }
          if width > 3 { t.3 += load(to + 3 &* channels) }
        }
        store(t.0, to)
        if width > 1 { store(t.1, to + channels) }
        if width > 2 { store(t.2, to + 2 &* channels) }
        if width > 3 { store(t.3, to + 3 &* channels) }
      }
      channel &+= lanes
    }
  }

  // MARK: Weights

  /// u[point] ← G g Gᵀ for eight neighbouring filters of a channel; the taps of g are `tap` floats apart.
  @inline(__always)
  static func transformWeight(
    _ w: UnsafePointer<Float>, tap: Int, into u: UnsafeMutablePointer<Float>, step: Int,
    _ work: UnsafeMutablePointer<Lanes>
  ) {
    for s in 0..<3 {
      let from = w + s &* tap
      let t = kernel(load(from), load(from + 3 &* tap), load(from + 6 &* tap))
      (work[s], work[s &+ 6], work[s &+ 12], work[s &+ 18], work[s &+ 24], work[s &+ 30]) = t
    }
    storeSquare(work, u, step) { g0, g1, g2, _, _, _ in kernel(g0, g1, g2) }
  }

  /// dw[tap][i] += Gᵀ du G.
  static func addWeightGradient(
    _ du: UnsafePointer<Float>, step: Int, _ range: Range<Int>, count: Int, to dw: UnsafeMutablePointer<Float>,
    _ work: UnsafeMutablePointer<Lanes>
  ) {
    var i = range.lowerBound
    while i < range.upperBound {
      for j in 0..<patch {
        let from = du + (j &* step &+ i), down = patch &* step
        let t = kernelGradient(
          load(from), load(from + down), load(from + 2 &* down), load(from + 3 &* down), load(from + 4 &* down),
          load(from + 5 &* down))
        (work[j], work[j &+ 6], work[j &+ 12]) = t
      }
      for r in 0..<3 {
        let row = work + r &* patch, to = dw + (3 &* r &* count &+ i)
        let t = kernelGradient(row[0], row[1], row[2], row[3], row[4], row[5])
        store(t.0 + load(to), to)
        store(t.1 + load(to + count), to + count)
        store(t.2 + load(to + 2 &* count), to + 2 &* count)
      }
      i &+= lanes
    }
  }

  @inline(__always)
  private static func load(_ from: UnsafePointer<Float>) -> Lanes {
    UnsafeRawPointer(from).loadUnaligned(as: Lanes.self)
  }

  @inline(__always)
  private static func store(_ value: Lanes, _ to: UnsafeMutablePointer<Float>) {
    UnsafeMutableRawPointer(to).storeBytes(of: value, as: Lanes.self)
  }
}

extension SIMD8<Float> {
  @inline(__always)
  fileprivate func addingProduct(_ factor: Float, _ other: Self) -> Self {
    addingProduct(Self(repeating: factor), other)
  }
}
