import Randomness
import Testing

/// Compares an analytic gradient with central differences.
///
/// The scalar is ⟨y, r⟩ with a random cotangent r. (Σy² would be constant after a normalisation.) The difference
/// quotient has four points,
///
///     D(h) = (f(x−2h) − 8f(x−h) + 8f(x+h) − f(x+2h)) / 12h,   D(h) − f′ = h⁴·f⁽⁵⁾/30,
///
/// Its truncation error is estimated with a second step: D(2h) − D(h) ≈ 15 truncations. Rounding: f is a sum with an
/// error of about ε·n of Σ|y·r|, and the weights 1, 8, 8, 1 over 12h multiply it by 1.5/h. If truncation is not small,
/// the function is not smooth at x (near the kink of a ReLU), which is a failure too.
struct GradientCheck {
  /// Largest |difference − analytic| of all elements, in units of the error expected from truncation and rounding.
  var ratio = 0.0
  /// Largest truncation error of all elements, in units of the gradient's size.
  var roughness = 0.0
  static let step = 1e-3
  /// ε·n, with a margin for long sums and for exp and division inside f.
  static let rounding = 100 * Double.ulpOfOne

  init(
    of f: ([Double]) -> [Double], at x: [Double], analytic: (_ cotangent: [Double]) -> [Double], seed: UInt64 = 1
  ) {
    let y = f(x)
    var draws = Draws(test: "cotangent", seed: seed)
    let r = draws.normals(y.count)
    let gradient = analytic(r)
    let size = rms(gradient)
    guard gradient.count == x.count else {
      ratio = .infinity
      return
    }
    let magnitude = zip(y, r).reduce(0) { $0 + abs($1.0 * $1.1) }
    for i in x.indices {
      let h = Self.step * max(1, abs(x[i]))
      func value(_ shift: Double) -> Double {
        var moved = x
        moved[i] += shift
        return zip(f(moved), r).reduce(0) { $0 + $1.0 * $1.1 }
      }
      func quotient(_ h: Double) -> Double { (value(-2 * h) - 8 * value(-h) + 8 * value(h) - value(2 * h)) / (12 * h) }
      let fine = quotient(h)
      let truncation = abs(quotient(2 * h) - fine) / 15
      let error = abs(fine - gradient[i])
      let explained = 2 * truncation + 1.5 * Self.rounding * magnitude / h
      ratio = max(ratio, error.isNaN ? .infinity : error / explained)
      roughness = max(roughness, truncation / (size + 1e-300))
    }
  }
}

/// Expects `analytic`, which turns a cotangent of y into the gradient of x, to be the gradient of f at x.
func expectGradient(
  of f: ([Double]) -> [Double], at x: [Double], analytic: (_ cotangent: [Double]) -> [Double], _ what: String = "",
  sourceLocation: SourceLocation = #_sourceLocation
) {
  let check = GradientCheck(of: f, at: x, analytic: analytic)
  #expect(check.roughness < 1e-5, "\(what): not smooth here: \(check.roughness)", sourceLocation: sourceLocation)
  #expect(check.ratio <= 1, "\(what): \(check.ratio) times what differences explain", sourceLocation: sourceLocation)
}
