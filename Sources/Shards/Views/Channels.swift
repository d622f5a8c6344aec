import Foundation

/// Gives a kind of view other channels than the data have: one of them, or a part of CIE L*a*b*.
///
/// Tian, Krishnan, Isola 2019, Contrastive Multiview Coding, arXiv:1906.05849: L for one encoder, ab for the other.
package enum Channels: Augmentation {
  package static let name = "channels"
  /// One channel of those it gets, from 0.
  case one(Int)
  /// L / 100 of red, green and blue, as sRGB under D65: one channel in [0, 1].
  case lightness
  /// (a + 128) / 256 and (b + 128) / 256 of the same: two channels in [0, 1], 0.5 where there is no colour.
  case colour

  package init(from decoder: any Swift.Decoder) throws {
    let value = try decoder.singleValueContainer()
    if let channel = try? value.decode(Int.self) {
      self = .one(channel)
      return
    }
    let name = try value.decode(String.self)
    switch name {
    case "L": self = .lightness
    case "ab": self = .colour
    default: throw decoder.unknown(name, known: ["L", "ab", "0"], of: "channels")
    }
  }

  package func encode(to encoder: any Encoder) throws {
    var value = encoder.singleValueContainer()
    switch self {
    case .one(let channel): try value.encode(channel)
    case .lightness: try value.encode("L")
    case .colour: try value.encode("ab")
    }
  }

  package func validate(_ kind: ViewRecipe, channels: Int) throws(RecipeError) -> [String] {
    if case .one(let channel) = self {
      guard (0..<channels).contains(channel) else {
        throw RecipeError("channels is \(channel); the data have channels 0 to \(channels - 1)")
      }
    } else if channels != 3 {
      throw RecipeError("channels: L and ab need red, green and blue, the data have \(channels) channels")
    }
    return []
  }

  package func channels(of channels: [Int?]) -> [Int?] {
    switch self {
    case .one(let channel): channels.indices.contains(channel) ? [channels[channel]] : [nil]
    case .lightness: [nil]
    case .colour: [nil, nil]
    }
  }

  package func apply(to canvas: Canvas, _ key: ViewKey) {
    let first = canvas.plane(0)
    switch self {
    case .one(let channel): if channel > 0 { first.update(from: canvas.plane(channel), count: canvas.area) }
    case .lightness:
      Channels.forEachLab(canvas) { i, lightness, _, _ in first[i] = unit(lightness / 100) }
    case .colour:
      let second = canvas.plane(1)
      Channels.forEachLab(canvas) { i, _, a, b in
        first[i] = unit((a + 128) / 256)
        second[i] = unit((b + 128) / 256)
      }
    }
  }

  /// Calls `body` with place, L*, a* and b* of every pixel: sRGB's curve is undone (IEC 61966-2-1), linear values go to
  /// XYZ over the white of D65, and these through CIE's cube root with its linear foot.
  private static func forEachLab(_ canvas: Canvas, _ body: (Int, Float, Float, Float) -> Void) {
    let red = canvas.plane(0)
    let green = canvas.plane(1)
    let blue = canvas.plane(2)
    for i in 0..<canvas.area {
      let r = linear(red[i])
      let g = linear(green[i])
      let b = linear(blue[i])
      let x = root((0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047)
      let y = root(0.2126729 * r + 0.7151522 * g + 0.0721750 * b)
      let z = root((0.0193339 * r + 0.1191920 * g + 0.9503041 * b) / 1.08883)
      body(i, 116 * y - 16, 500 * (x - y), 200 * (y - z))
    }
  }

  private static func linear(_ value: Float) -> Float {
    value <= 0.04045 ? value / 12.92 : pow((value + 0.055) / 1.055, 2.4)
  }

  private static func root(_ value: Float) -> Float {
    value > 216.0 / 24389 ? cbrt(value) : (24389.0 / 27 * value + 16) / 116
  }
}
