import CSystem

/// Winograd's minimal filtering for 3×3 convolutions (Lavin and Gray 2016, arXiv:1509.09308): a tile of the output by
/// fewer products than outputs times taps,
///
///     Y = S [ (K g Kᵀ) ⊙ (T d Tᵀ) ] Sᵀ          g the 3×3 kernel, d a patch of the input
///
/// Every matrix acts along lines and then along columns; a `LineTransform` is one matrix, a `WinogradScheme` a set of
/// matrices that belong together. All are vectorised over channels.
protocol WinogradScheme {
  /// T, of the input.
  associatedtype Input: LineTransform
  /// S, to the output.
  associatedtype Output: LineTransform
  /// Sᵀ, of the output's gradient, for the weight gradient K'ᵀ [ Σ (Sᵀ dY S) ⊙ (T d Tᵀ) ] K'.
  associatedtype Cotangent: LineTransform
  /// T and S of the data gradient, whose kernel is rotated by 180°.
  associatedtype TurnedInput: LineTransform
  associatedtype TurnedOutput: LineTransform
  /// K, of the kernel, and its transpose.
  associatedtype Kernel: LineTransform
  associatedtype KernelGradient: LineTransform

  /// Lines from one patch of the input to the next, and lines of padding above the first.
  static var advance: Int { get }
  static var margin: Int { get }
  /// The same padding of dy in the data gradient.
  static var turnedMargin: Int { get }
  /// The products, along one direction, that share a transformed weight.
  static func products(of weight: Int) -> Range<Int>
  /// Whether a tile of so many outputs, of one direction, takes part in a product.
  static func uses(_ product: Int, tile: Int) -> Bool
}

/// A matrix, as its product with a vector of lanes. The last tile of a line may have only two or three outputs and
/// needs fewer points: a subset of a full tile's, so the transformed weights are the same, with matrices of their own.
protocol LineTransform {
  static var inputs: Int { get }
  static var outputs: Int { get }
  /// - tile: outputs of the tile, 2 to 4.
  static func apply(
    _ tile: Int, _ read: (_ i: Int) -> Lanes, _ write: (_ i: Int, _ value: Lanes) -> Void)
}

enum Winograd {
  /// Outputs of a tile in one direction.
  static let tile = 4
  /// Transformed weights in one direction, and in both.
  static let weights = 6, allWeights = 36
  /// Values that a transform keeps between lines and columns, at most.
  static let work = 81

  /// v[i·outputs + j] ← (T d Tᵀ)ij for all channels of a patch. `rows` are its lines, of which `columns` lie in the
  /// map; `ahead` are the lines of a later patch, to prefetch; `step` is the floats from one product of `v` to the
  /// next.
  @inline(__always)
  static func gather<S: WinogradScheme, T: LineTransform>(
    _: S.Type, _: T.Type, tile: (height: Int, width: Int), _ rows: UnsafePointer<UnsafePointer<Float>>,
    ahead: UnsafePointer<UnsafePointer<Float>>, columns: Range<Int>, channels: Int,
    into v: UnsafeMutablePointer<Float>, step: Int, _ work: UnsafeMutablePointer<Lanes>
  ) {
    if columns.count < T.inputs { for i in 0..<T.outputs &* T.inputs { work[i] = .zero } }
    var channel = 0
    while channel < channels {
      for j in columns {
        let at = j &* channels &+ channel
        T.apply(
          tile.height,
          {
            csystem_prefetch(ahead[$0] + at)
            return load(rows[$0] + at)
          }, { work[$0 &* T.inputs &+ j] = $1 })
      }
      for i in 0..<T.outputs where S.uses(i, tile: tile.height) {
        let row = work + i &* T.inputs
        let to = v + (i &* T.outputs &* step &+ channel)
        T.apply(tile.width, { row[$0] }, { store($1, to + $0 &* step) })
      }
      channel &+= Lanes.scalarCount
    }
  }

  /// y ← S m Sᵀ for all channels of a tile: `height` lines of `line` floats and `width` columns lie in the map.
  @inline(__always)
  static func scatter<S: WinogradScheme, T: LineTransform>(
    _: S.Type, _: T.Type, tile: (height: Int, width: Int), _ m: UnsafePointer<Float>, step: Int, channels: Int,
    into y: UnsafeMutablePointer<Float>, line: Int,
    height: Int, width: Int, accumulate: Bool, _ work: UnsafeMutablePointer<Lanes>
  ) {
    var channel = 0
    while channel < channels {
      for j in 0..<T.inputs where S.uses(j, tile: tile.width) {
        let from = m + (j &* step &+ channel)
        T.apply(tile.height, { load(from + $0 &* T.inputs &* step) }, { work[$0 &* T.inputs &+ j] = $1 })
      }
      for i in 0..<height {
        let row = work + i &* T.inputs
        let to = y + (i &* line &+ channel)
        T.apply(
          tile.width, { row[$0] },
          { j, value in
            guard j < width else { return }
            let to = to + j &* channels
            store(accumulate ? value + load(to) : value, to)
          })
      }
      channel &+= Lanes.scalarCount
    }
  }

  /// u[weight] ← K g Kᵀ for a register of neighbouring filters of a channel; the taps of g are `tap` floats apart.
  @inline(__always)
  static func transformWeight<T: LineTransform>(
    _: T.Type, _ w: UnsafePointer<Float>, tap: Int, into u: UnsafeMutablePointer<Float>, step: Int,
    _ work: UnsafeMutablePointer<Lanes>
  ) {
    for s in 0..<3 {
      let from = w + s &* tap
      T.apply(tile, { load(from + 3 &* $0 &* tap) }, { work[$0 &* 3 &+ s] = $1 })
    }
    for i in 0..<weights {
      let row = work + 3 &* i
      let to = u + i &* weights &* step
      T.apply(tile, { row[$0] }, { store($1, to + $0 &* step) })
    }
  }

  /// dw[tap][i] += Kᵀ (Σ du) K for the elements i in `range`. Taps of dw are `count` floats apart, matrices of du
  /// `step`; Σ is over `sums` partial sums.
  static func addWeightGradient<T: LineTransform>(
    _: T.Type, _ du: UnsafePointer<Float>, sums: Int, step: Int, _ range: Range<Int>, count: Int,
    to dw: UnsafeMutablePointer<Float>, _ work: UnsafeMutablePointer<Lanes>
  ) {
    var i = range.lowerBound
    while i < range.upperBound {
      for j in 0..<weights {
        let from = du + (j &* step &+ i)
        T.apply(
          tile,
          {
            let point = from + $0 &* weights &* step
            var sum = load(point)
            for i in 1..<sums { sum += load(point + i &* allWeights &* step) }
            return sum
          }, { work[$0 &* weights &+ j] = $1 })
      }
      for r in 0..<3 {
        let row = work + r &* weights
        let to = dw + (3 &* r &* count &+ i)
        T.apply(tile, { row[$0] }, { store($1 + load(to + $0 &* count), to + $0 &* count) })
      }
      i &+= Lanes.scalarCount
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

// MARK: Stride 1

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

// MARK: Stride 2

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

extension Lanes {
  @inline(__always)
  fileprivate func addingProduct(_ factor: Float, _ other: Self) -> Self {
    addingProduct(Self(repeating: factor), other)
  }
}
