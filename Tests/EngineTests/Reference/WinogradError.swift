/// Winograd's matrices in Double, and how far Float32 may be from the truth with them.
///
/// The model: a rounding changes a value by a relative error of variance u²/3, u = 2⁻²⁴, independent of all others; x, dy
/// and the weight are independent and normal. A product at the points (p, q) then has the variance of one tap's product
/// times ‖B_p‖²‖B_q‖²‖G_p‖²‖G_q‖² (rows of Bᵀ and G), so the output (i, j) of a tile has
///
///     rms error / rms output ≤ u/√3 · √roundings · √(S_i S_j),   S_i = Σ_p A_pi² ‖B_p‖² ‖G_p‖² / 3
///
/// since the rounding errors of the 36 products add up while the products themselves cancel down to nine taps. S is 7.1
/// at most: Winograd loses a factor of seven, three bits. For the weight gradient, G and A change places.
enum WinogradError {
  static let a = 2.0.squareRoot(), b = 0.5.squareRoot()
  static let g: [[Double]] = [[1, 0, 0], [b, 1, a], [b, -1, a], [a, 1, b], [a, -1, b], [0, 0, 1]]
  static let bT: [[Double]] = [
    [1, 0, -2.5, 0, 1, 0], [0, -b, -0.5, a, 1, 0], [0, b, -0.5, -a, 1, 0], [0, -a, -2, b, 1, 0], [0, a, -2, -b, 1, 0],
    [0, 1, 0, -2.5, 0, 1],
  ]
  static let aT: [[Double]] = {
    let (p, q, third, sixth) = (a / 6, a / 3, 1.0 / 3, 1.0 / 6)
    return [
      [1, p, p, -q, -q, 0], [0, third, -third, -third, third, 0], [0, q, q, -b / 3, -b / 3, 0],
      [0, 2 * third, -2 * third, -sixth, sixth, 1],
    ]
  }()

  private static func squares(_ row: [Double]) -> Double { row.reduce(0) { $0 + $1 * $1 } }

  /// Roundings in a row: two transforms of at most three in each direction, and half of the GEMM's additions (a partial
  /// sum is half as large as the sum, on average).
  private static func unit(sum: Int) -> Double { 0x1p-24 / 3.0.squareRoot() * (12 + Double(sum) / 2).squareRoot() }

  /// Of an output or data gradient, a sum over `channels`.
  static func output(channels: Int) -> Double {
    unit(sum: channels) * growth(aT, 3) { squares(bT[$0]) * squares(g[$0]) }
  }

  /// Of a weight gradient, a sum over `tiles`.
  static func weightGradient(tiles: Int) -> Double {
    let gT = (0..<3).map { i in g.map { $0[i] } }
    return unit(sum: tiles) * growth(gT, 4) { p in squares(bT[p]) * squares(aT.map { $0[p] }) }
  }

  /// The greatest S_i.
  private static func growth(_ last: [[Double]], _ taps: Double, _ variance: (Int) -> Double) -> Double {
    var greatest = 0.0
    for row in last {
      var sum = 0.0
      for p in 0..<6 { sum += row[p] * row[p] * variance(p) }
      greatest = max(greatest, sum / taps)
    }
    return greatest
  }
}
