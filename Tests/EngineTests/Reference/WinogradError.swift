/// Winograd's matrices in Double, and a model of their rounding error in Float32.
///
/// The model: a rounding changes a value by a relative error of variance u²/3, u = 2⁻²⁴, independent of all others; x,
/// dy and the weight are independent normal. The product (p, q) of a tile then has the variance of one tap's product
/// times ‖T_p‖²‖T_q‖²‖K_p‖²‖K_q‖² (rows of T and K), so the output (i, j) of a tile has
///
///     rms error / rms output ≤ u/√3 · √roundings · √(G_i G_j),   G_i = Σ_p S_ip² ‖T_p‖² ‖K_p‖² / taps
///
/// since the rounding errors of all products add up while the products themselves cancel to nine taps. With stride 1, G
/// is at most 7.1, so Winograd loses a factor of seven, or three bits. For the weight gradient, K and S are exchanged.
struct WinogradError {
  /// Transform of the input, (P, inputs).
  let t: [[Double]]
  /// Transform of the kernel, (P, 3).
  let k: [[Double]]
  /// Transform of the products to the output, (outputs, P).
  let s: [[Double]]
  /// Mean number of taps of an output along one direction.
  var taps = 3.0

  static let stride1: WinogradError = {
    let a = 2.0.squareRoot()
    let b = 0.5.squareRoot()
    let p = a / 6
    let q = a / 3
    let third = 1.0 / 3
    let sixth = 1.0 / 6
    return WinogradError(
      t: [
        [1, 0, -2.5, 0, 1, 0], [0, -b, -0.5, a, 1, 0], [0, b, -0.5, -a, 1, 0], [0, -a, -2, b, 1, 0],
        [0, a, -2, -b, 1, 0], [0, 1, 0, -2.5, 0, 1],
      ],
      k: [[1, 0, 0], [b, 1, a], [b, -1, a], [a, 1, b], [a, -1, b], [0, 0, 1]],
      s: [
        [1, p, p, -q, -q, 0], [0, third, -third, -third, third, 0], [0, q, q, -b / 3, -b / 3, 0],
        [0, 2 * third, -2 * third, -sixth, sixth, 1],
      ])
  }()

  /// F(4, 2) of the outer taps with the odd samples, and the middle tap with the even ones.
  static let stride2: WinogradError = {
    var t = points.t.map { row in (0..<9).map { $0 % 2 == 0 ? row[$0 / 2] : 0 } }
    for i in 0..<4 { t.append(unit(2 * i + 1, of: 9)) }
    let outer: [[Double]] = points.k.map { [$0[0], 0, $0[1]] }
    let middle: [[Double]] = Array(repeating: [0, 1, 0], count: 4)
    return WinogradError(t: t, k: outer + middle, s: (0..<4).map { points.s[$0] + unit($0, of: 4) })
  }()

  /// For the data gradient with stride 2, in which even and odd samples alternate, with a reversed kernel.
  static let stride2Turned: WinogradError = {
    var t = points.t
    var s: [[Double]] = []
    for i in 0..<4 {
      t.append(unit(i, of: 5))
      s.append(Array(repeating: 0, count: 5) + unit(i, of: 4))
      s.append(points.s[i] + Array(repeating: 0, count: 4))
    }
    // Even samples have one tap, odd ones two.
    return WinogradError(t: t, k: stride2.k, s: s, taps: 1.5)
  }()

  /// F(4, 2) at ±3/2, ±½, ∞.
  private static let points: (t: [[Double]], k: [[Double]], s: [[Double]]) = (
    [
      [-0.375, -0.25, 1.5, 1, 0], [0.375, -0.25, -1.5, 1, 0], [-1.125, -2.25, 0.5, 1, 0], [1.125, -2.25, -0.5, 1, 0],
      [0.5625, 0, -2.5, 0, 1],
    ],
    [[1.0 / 6, 0.25], [-1.0 / 6, 0.25], [-0.5, -0.25], [0.5, -0.25], [0, 1]],
    [[1, 1, 1, 1, 0], [1.5, -1.5, 0.5, -0.5, 0], [2.25, 2.25, 0.25, 0.25, 0], [3.375, -3.375, 0.125, -0.125, 1]]
  )

  private static func unit(_ i: Int, of count: Int) -> [Double] { (0..<count).map { $0 == i ? 1 : 0 } }

  private static func squares(_ row: [Double]) -> Double { row.reduce(0) { $0 + $1 * $1 } }

  /// Rounding of one result: two transforms of at most three roundings in each direction, and half of the GEMM's
  /// additions (a partial sum is half as large as the sum on average).
  private static func unit(sum: Int) -> Double { 0x1p-24 / 3.0.squareRoot() * (12 + Double(sum) / 2).squareRoot() }

  /// Relative error of an output or data gradient, a sum over `channels`.
  func output(channels: Int) -> Double {
    Self.unit(sum: channels) * growth(s, taps) { Self.squares(t[$0]) * Self.squares(k[$0]) }
  }

  /// Relative error of a weight gradient, a sum over `tiles`, in which products that share a weight count separately.
  func weightGradient(tiles: Int) -> Double {
    let shared = t.count == 9 ? 16 : 1
    let kT = (0..<3).map { i in k.map { $0[i] } }
    return Self.unit(sum: tiles * shared) * growth(kT, 4) { p in Self.squares(t[p]) * Self.squares(s.map { $0[p] }) }
  }

  /// The largest G_i; the exact result has `terms` terms in one direction.
  private func growth(_ last: [[Double]], _ terms: Double, _ variance: (Int) -> Double) -> Double {
    last.map { row in row.indices.reduce(0) { $0 + row[$1] * row[$1] * variance($1) } / terms }.max()!
  }
}
