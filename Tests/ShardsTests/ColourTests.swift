import Randomness
import Shards
import Testing

/// TensorFlow's colour operations against their definitions in Double: HSV and back, and a mean for each channel.
@Suite struct ColourTests {
  /// Random colours, greys, black, white and saturated ones.
  static let colours: [SIMD3<Float>] = {
    var draws = Draws(seed: 3, .check)
    let random = (0..<120).map { _ in
      SIMD3(Float(draws.uniform()), Float(draws.uniform()), Float(draws.uniform()))
    }
    let special: [SIMD3<Float>] = [
      [0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1],
      [0.2, 0.2, 0.7], [0.9, 0.1, 0.1], [0.3, 0.8, 0.8],
    ]
    return random + special + special
  }()
  static let size = 12

  static func canvas(in workspace: Workspace) -> Canvas {
    let canvas = Canvas(size: size, channels: 3, in: workspace)
    canvas.read(from: colours.flatMap { [$0.x, $0.y, $0.z] })
    return canvas
  }

  /// The largest difference from the expected colours.
  static func distance(_ canvas: Canvas, _ expected: (SIMD3<Double>) -> SIMD3<Double>) -> Double {
    colours.indices.map { i in
      let wanted = expected(SIMD3<Double>(colours[i]))
      return (0..<3).map { abs(Double(canvas.plane($0)[i]) - wanted[$0]) }.max()!
    }.max()!
  }

  /// Travis, Effective Color Displays, 1991: hexagonal hue, S = (max - min) / max, V = max.
  static func hsv(_ c: SIMD3<Double>) -> SIMD3<Double> {
    let range = c.max() - c.min()
    if range == 0 { return [0, 0, c.max()] }
    let sector: Double
    if c.x == c.max() {
      sector = (c.y - c.z) / range
    } else if c.y == c.max() {
      sector = 2 + (c.z - c.x) / range
    } else {
      sector = 4 + (c.x - c.y) / range
    }
    return [(sector < 0 ? sector + 6 : sector) / 6, range / c.max(), c.max()]
  }

  static func rgb(_ c: SIMD3<Double>) -> SIMD3<Double> {
    let sector = Int(c.x * 6) % 6
    let f = c.x * 6 - (c.x * 6).rounded(.down)
    let p = c.z * (1 - c.y)
    let q = c.z * (1 - c.y * f)
    let t = c.z * (1 - c.y * (1 - f))
    return [[c.z, t, p], [q, c.z, p], [p, c.z, t], [p, q, c.z], [t, p, c.z], [c.z, p, q]][sector]
  }

  @Test(arguments: [0.0, 0.2, 1.0, 1.3, 1.8]) func saturationInHSV(_ factor: Double) {
    let workspace = Workspace()
    let canvas = Self.canvas(in: workspace)
    Colour.saturate(canvas, Float(factor), by: .hsv)
    func twin(_ c: SIMD3<Double>) -> SIMD3<Double> {
      var found = Self.hsv(c)
      found.y = min(1, found.y * Double(Float(factor)))
      return Self.rgb(found)
    }
    // A subtraction, a quotient, a product and a subtraction, of values up to 1, k up to 2: 8 u.
    #expect(Self.distance(canvas, twin) <= 8 * 0x1p-24)
    let other = Self.canvas(in: Workspace())
    Colour.saturate(other, Float(factor))
    if factor != 1 { #expect(Self.distance(other, twin) > 0.1) }
  }

  @Test(arguments: [0.2, 1.7]) func contrastByChannel(_ factor: Double) {
    let workspace = Workspace()
    let canvas = Self.canvas(in: workspace)
    Colour.contrast(canvas, Float(factor), by: .channel)
    let mean = Self.colours.reduce(SIMD3<Double>.zero) { $0 + SIMD3<Double>($1) } / Double(Self.colours.count)
    func twin(_ c: SIMD3<Double>) -> SIMD3<Double> {
      ((c - mean) * Double(Float(factor)) + mean).clamped(lowerBound: .zero, upperBound: .one)
    }
    #expect(Self.distance(canvas, twin) <= 8 * 0x1p-24)
    let other = Self.canvas(in: Workspace())
    Colour.contrast(other, Float(factor))
    #expect(Self.distance(other, twin) > 0.005)
  }

  /// Options of the recipe change the pixels.
  @Test func optionsReachThePixels() {
    let canvas = Self.canvas(in: Workspace())
    let key = ViewKey(seed: 1, epoch: 0, step: 0, sample: 0, view: 0)
    func made(_ contrastBy: Colour.Contrast, _ saturationBy: Colour.Saturation) -> [Float] {
      canvas.read(from: Self.colours.flatMap { [$0.x, $0.y, $0.z] })
      Colour(contrast: 0.8, saturation: 0.8, contrastBy: contrastBy, saturationBy: saturationBy).apply(to: canvas, key)
      return AugmentationPropertyTests.values(canvas)
    }
    let all = [made(.image, .blend), made(.channel, .blend), made(.image, .hsv), made(.channel, .hsv)]
    #expect(Set(all).count == 4)
  }

  /// L*, a*, b* of sRGB's corners and of a grey under D65, from tables, to two decimals.
  static let tabulated: [([Float], [Double])] = [
    ([1, 0, 0], [53.24, 80.09, 67.20]), ([0, 1, 0], [87.73, -86.18, 83.18]), ([0, 0, 1], [32.30, 79.19, -107.86]),
    ([1, 1, 1], [100, 0, 0]), ([0, 0, 0], [0, 0, 0]), ([0.5, 0.5, 0.5], [53.39, 0, 0]),
    ([1, 1, 0], [97.14, -21.55, 94.48]),
  ]

  @Test(arguments: tabulated) func lab(_ rgb: [Float], _ lab: [Double]) {
    func made(_ channels: Channels) -> [Float] {
      let canvas = Canvas(size: 1, channels: 3, in: Workspace())
      canvas.read(from: rgb)
      channels.apply(to: canvas, ViewKey(seed: 1, epoch: 0, step: 0, sample: 0, view: 0))
      return (0..<channels.channels(of: [0, 1, 2]).count).map { canvas.plane($0)[0] }
    }
    #expect(made(.lightness).count == 1 && made(.colour).count == 2)
    #expect(abs(Double(made(.lightness)[0]) * 100 - lab[0]) < 0.02)
    #expect(abs(Double(made(.colour)[0]) * 256 - 128 - lab[1]) < 0.05)
    #expect(abs(Double(made(.colour)[1]) * 256 - 128 - lab[2]) < 0.05)
  }
}
