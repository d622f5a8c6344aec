/// The kernel of an antialiased resize.
package enum Interpolation: String, Codable, CaseIterable, Sendable {
  case bilinear, bicubic

  /// Half the kernel's width in output pixels (input pixels where the image grows).
  var support: Double { self == .bilinear ? 1 : 2 }

  /// Triangle, or Keys' cubic with a = -0.5 as Pillow and torch's antialiased resize have it.
  func value(_ x: Double) -> Double {
    let x = abs(x)
    switch self {
    case .bilinear: return max(0, 1 - x)
    case .bicubic:
      if x < 1 { return (1.5 * x - 2.5) * x * x + 1 }
      return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0
    }
  }
}
