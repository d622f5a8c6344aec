import Randomness

/// Colour jitter: brightness, contrast, saturation and hue in random order, each clamped to [0, 1], with a probability.
package struct Colour: Augmentation, Options {
  package static let name = "colour"
  package var probability = 1.0
  /// b: the factor is uniform in max(0, 1 - b) ... 1 + b (additive: the summand in -b ... b); likewise the next two.
  package var brightness = 0.0, contrast = 0.0, saturation = 0.0
  /// h: turns of the colour circle, uniform in -h ... h; at most 0.5.
  package var hue = 0.0
  package var brightnessBy = Brightness.factor
  package var contrastBy = Contrast.image
  package var saturationBy = Saturation.blend

  /// How brightness changes.
  package enum Brightness: String, Codable, CaseIterable, Sendable {
    case factor
    /// SimCLR's first version and BYOL.
    case summand
  }

  /// What contrast keeps.
  package enum Contrast: String, Codable, CaseIterable, Sendable {
    /// torchvision's: the mean luminance of the view.
    case image
    /// TensorFlow's and BYOL's: the mean of each channel.
    case channel
  }

  /// How saturation changes.
  package enum Saturation: String, Codable, CaseIterable, Sendable {
    /// torchvision's: each pixel is blended with its luminance.
    case blend
    /// TensorFlow's and BYOL's: a factor on S of HSV, at most 1; hue and value stay.
    case hsv
  }

  /// An option that is not given has its default.
  package init(
    probability: Double = Colour().probability, brightness: Double = Colour().brightness,
    contrast: Double = Colour().contrast, saturation: Double = Colour().saturation, hue: Double = Colour().hue,
    brightnessBy: Brightness = Colour().brightnessBy, contrastBy: Contrast = Colour().contrastBy,
    saturationBy: Saturation = Colour().saturationBy
  ) {
    self.probability = probability
    self.brightness = brightness
    self.contrast = contrast
    self.saturation = saturation
    self.hue = hue
    self.brightnessBy = brightnessBy
    self.contrastBy = contrastBy
    self.saturationBy = saturationBy
  }

  package init() {}

  package func validate(_ kind: ViewRecipe, channels: Int) throws(RecipeError) -> [String] {
    try require("colour.probability", probability, in: 0...1)
    try require("colour.brightness", brightness, in: 0...10)
    try require("colour.contrast", contrast, in: 0...10)
    try require("colour.saturation", saturation, in: 0...10)
    try require("colour.hue", hue, in: 0...0.5)
    let needRGB = [("saturation", saturation), ("hue", hue)].filter { $0.1 > 0 }.map(\.0)
    if channels == 3 || needRGB.isEmpty { return [] }
    if channels == 1 { return needRGB }
    throw RecipeError(
      "colour.\(needRGB.joined(separator: " and colour.")) need red, green and blue, the data have \(channels) "
        + "channels; set to 0")
  }

  package func apply(to canvas: Canvas, _ key: ViewKey) {
    var draws = key.draws(.colour)
    guard draws.chance(probability) else { return }
    func factor(_ strength: Double) -> Float { Float(draws.uniform(in: max(0, 1 - strength)...1 + strength)) }
    let added = brightnessBy == .summand
    let bright = added ? Float(draws.uniform(in: -brightness...brightness)) : factor(brightness)
    let contrasted = factor(contrast)
    let saturated = factor(saturation)
    let turn = Float(draws.uniform(in: -hue...hue))
    // Fisher–Yates over four, without an array.
    var order: SIMD4<UInt8> = [0, 1, 2, 3]
    for i in stride(from: 3, to: 0, by: -1) {
      let j = draws.integer(below: i + 1)
      let kept = order[i]
      order[i] = order[j]
      order[j] = kept
    }
    for i in 0..<4 {
      switch order[i] {
      case 0 where brightness > 0:
        if added { Colour.lighten(canvas, by: bright) } else { Colour.brighten(canvas, bright) }
      case 1 where contrast > 0: Colour.contrast(canvas, contrasted, by: contrastBy)
      case 2 where saturation > 0 && canvas.channels == 3: Colour.saturate(canvas, saturated, by: saturationBy)
      case 3 where hue > 0 && canvas.channels == 3: Colour.turn(canvas, turn)
      default: break
      }
    }
  }

  /// x·factor.
  package static func brighten(_ canvas: Canvas, _ factor: Float) {
    for c in 0..<canvas.channels {
      let p = canvas.plane(c)
      for i in 0..<canvas.area { p[i] = unit(p[i] * factor) }
    }
  }

  /// x + summand.
  package static func lighten(_ canvas: Canvas, by summand: Float) {
    for c in 0..<canvas.channels {
      let p = canvas.plane(c)
      for i in 0..<canvas.area { p[i] = unit(p[i] + summand) }
    }
  }

  /// Blends with a mean: of the view's luminance, or of each channel. Only red, green and blue have a luminance; other
  /// channels keep their own means.
  package static func contrast(_ canvas: Canvas, _ factor: Float, by kind: Contrast = Colour().contrastBy) {
    func blend(_ plane: UnsafeMutablePointer<Float>, with mean: Float) {
      let rest = (1 - factor) * mean
      for i in 0..<canvas.area { plane[i] = unit(rest.addingProduct(plane[i], factor)) }
    }
    if canvas.channels == 3, kind == .image {
      let r = canvas.plane(0)
      let g = canvas.plane(1)
      let b = canvas.plane(2)
      let grey = mean(canvas) { luminance(r[$0], g[$0], b[$0]) }
      for plane in [r, g, b] { blend(plane, with: grey) }
      return
    }
    for c in 0..<canvas.channels {
      let plane = canvas.plane(c)
      blend(plane, with: mean(canvas) { plane[$0] })
    }
  }

  package static func saturate(_ canvas: Canvas, _ factor: Float, by kind: Saturation = Colour().saturationBy) {
    switch kind {
    case .blend: blend(canvas, factor)
    case .hsv: stretch(canvas, factor)
    }
  }

  /// Blends each pixel with its luminance.
  private static func blend(_ canvas: Canvas, _ factor: Float) {
    let r = canvas.plane(0)
    let g = canvas.plane(1)
    let b = canvas.plane(2)
    let other = 1 - factor
    for i in 0..<canvas.area {
      let rest = luminance(r[i], g[i], b[i]) * other
      r[i] = unit(rest.addingProduct(r[i], factor))
      g[i] = unit(rest.addingProduct(g[i], factor))
      b[i] = unit(rest.addingProduct(b[i], factor))
    }
  }

  /// S ← min(1, factor·S) in HSV.
  ///
  /// With V the largest of the three values and R their range, S is R/V. A channel is V - R·c, where c depends on the
  /// hue alone; so its distance from V grows by the same factor as S, min(factor, V/R).
  private static func stretch(_ canvas: Canvas, _ factor: Float) {
    let r = canvas.plane(0)
    let g = canvas.plane(1)
    let b = canvas.plane(2)
    for i in 0..<canvas.area {
      let high = larger(larger(r[i], g[i]), b[i])
      let range = high - smaller(smaller(r[i], g[i]), b[i])
      let k = smaller(factor, high / (range > 0 ? range : 1))
      r[i] = unit(high - (high - r[i]) * k)
      g[i] = unit(high - (high - g[i]) * k)
      b[i] = unit(high - (high - b[i]) * k)
    }
  }

  /// Turns the hue by a share of the colour circle, keeping the largest and the smallest of the three values.
  ///
  /// With h in sixths of a turn, V the largest value and R the range, a channel is V - R·clamp(min(k, 4 - k), 0, 1),
  /// k = (n + h) mod 6, n = 5, 3, 1 for red, green, blue: no branch and one division.
  package static func turn(_ canvas: Canvas, _ turn: Float) {
    let r = canvas.plane(0)
    let g = canvas.plane(1)
    let b = canvas.plane(2)
    let shift = 6 * turn
    for i in 0..<canvas.area {
      let x = r[i]
      let y = g[i]
      let z = b[i]
      let high = larger(larger(x, y), z)
      let range = high - smaller(smaller(x, y), z)
      let difference = x == high ? y - z : y == high ? z - x : x - y
      let sector: Float = x == high ? 0 : y == high ? 2 : 4
      let h = (sector + shift) + difference / (range > 0 ? range : 1)
      r[i] = unit(high - range * wave(h + 5))
      g[i] = unit(high - range * wave(h + 3))
      b[i] = unit(high - range * wave(h + 1))
    }
  }

  @inline(__always) private static func wave(_ turns: Float) -> Float {
    let k = turns - 6 * (turns * (1 / 6)).rounded(.down)
    return unit(smaller(k, 4 - k))
  }

  /// Sums in Double by blocks of rows, in a fixed order.
  @inline(__always) private static func mean(_ canvas: Canvas, _ value: (Int) -> Float) -> Float {
    var total = 0.0
    var i = 0
    let n = canvas.area
    while i &+ 16 <= n {
      var lanes = SIMD16<Float>.zero
      var end = min(n, i &+ 1024)
      end = i &+ (end &- i) / 16 &* 16
      while i < end {
        var next = SIMD16<Float>.zero
        for j in 0..<16 { next[j] = value(i &+ j) }
        lanes += next
        i &+= 16
      }
      total += Double(lanes.sum())
    }
    while i < n {
      total += Double(value(i))
      i &+= 1
    }
    return Float(total / Double(n))
  }
}

/// Clamps to [0, 1]. Comparisons that vectorise, unlike those that mind NaN.
@inline(__always) func unit(_ x: Float) -> Float { smaller(larger(x, 0), 1) }
@inline(__always) func larger(_ a: Float, _ b: Float) -> Float { a > b ? a : b }
@inline(__always) func smaller(_ a: Float, _ b: Float) -> Float { a < b ? a : b }
