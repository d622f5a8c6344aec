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

/// The weights of a resize along one axis: output i is Σ weights[i·taps + t] · input[starts[i] + t].
struct Taps {
  /// Per output, padded with zero weights.
  let taps: Int
  let starts: UnsafePointer<Int32>, counts: UnsafePointer<Int32>
  let weights: UnsafePointer<Float>

  /// - Parameters:
  ///   - origin, extent: the part of the axis that is shown, in input pixels.
  ///   - clip: the input pixels that may be used; weights are renormalised at its borders.
  ///   - size: outputs.
  ///   - factor: what the weights of an output sum to.
  /// - Returns: weights in memory of the workspace, valid until the next call with the same slot.
  init(
    origin: Double, extent: Double, clip: Range<Int>, size: Int, _ interpolation: Interpolation, factor: Double,
    in workspace: Workspace, _ slot: Workspace.Slot
  ) {
    let step = extent / Double(size), stretch = max(step, 1), support = interpolation.support * stretch
    let taps = Int(support.rounded(.up)) * 2 + 1
    // Starts and counts lie behind the weights: both are 4 bytes wide.
    let weights = workspace.floats(slot, size * taps + 2 * size)
    let indices = UnsafeMutableRawPointer(weights + size * taps).assumingMemoryBound(to: Int32.self)
    for i in 0..<size {
      let centre = origin + (Double(i) + 0.5) * step
      let first = max(Int((centre - support + 0.5).rounded(.towardZero)), clip.lowerBound)
      let start = min(first, clip.upperBound - 1)
      let count = max(1, min(min(Int((centre + support + 0.5).rounded(.towardZero)), clip.upperBound) - start, taps))
      let row = weights + i * taps
      var total = 0.0
      for t in 0..<count { total += interpolation.value((Double(start + t) - centre + 0.5) / stretch) }
      for t in 0..<taps {
        let weight = t < count ? interpolation.value((Double(start + t) - centre + 0.5) / stretch) : 0
        row[t] = Float(weight / total * factor)
      }
      indices[i] = Int32(start)
      indices[size + i] = Int32(count)
    }
    self.taps = taps
    self.weights = UnsafePointer(weights)
    starts = UnsafePointer(indices)
    counts = UnsafePointer(indices + size)
  }
}

extension Canvas {
  /// Fills the canvas with a part of an image: antialiased, separable, along rows first and only over the rows that are
  /// needed, then along columns; clamped to [0, 1], which a cubic may leave.
  ///
  /// - Parameters:
  ///   - pixels: interleaved, 8 or 16 bits; full scale becomes 1. One channel fills all of the canvas's.
  ///   - frame: in coordinates of `pixels`.
  package func fill(from pixels: Pixels, _ frame: Frame, _ interpolation: Interpolation) {
    precondition(
      pixels.channels == channels || pixels.channels == 1,
      "a view of \(channels) channels from an image of \(pixels.channels)")
    let clip = frame.clip
    let x = Taps(
      origin: frame.x, extent: frame.width, clip: clip.x..<clip.x + clip.width, size: size, interpolation,
      factor: 1, in: workspace, .weightsX)
    let y = Taps(
      origin: frame.y, extent: frame.height, clip: clip.y..<clip.y + clip.height, size: size, interpolation,
      factor: pixels.depth == 8 ? 1 / 255 : 1 / 65535, in: workspace, .weightsY)
    let top = Int(y.starts[0]), bottom = Int(y.starts[size - 1] + y.counts[size - 1])
    let width = (size * pixels.channels + 15) / 16 * 16 + 16
    let rows = workspace.floats(.columns, (bottom - top) * width + 16)
    alongRows(pixels, x, rows: top..<bottom, columns: clip.x..<clip.x + clip.width, into: rows, width)
    alongColumns(rows, width, top: top, y, channels: pixels.channels)
    for c in pixels.channels..<channels { plane(c).update(from: planes, count: area) }
  }

  /// - Parameter out: a row of size · channels values every `width` floats.
  private func alongRows(
    _ pixels: Pixels, _ x: Taps, rows: Range<Int>, columns: Range<Int>, into out: UnsafeMutablePointer<Float>,
    _ width: Int
  ) {
    let c = pixels.channels, count = columns.count * c
    let line = workspace.floats(.row, count + 16)
    pixels.bytes.withUnsafeBytes { bytes in
      for row in rows {
        let start = (row * pixels.width + columns.lowerBound) * c
        if pixels.depth == 8 {
          let source = bytes.baseAddress! + start
          for i in 0..<count { line[i] = Float(source.load(fromByteOffset: i, as: UInt8.self)) }
        } else {
          let source = bytes.baseAddress! + start * 2
          for i in 0..<count { line[i] = Float(source.loadUnaligned(fromByteOffset: i &* 2, as: UInt16.self)) }
        }
        Self.filter(line - columns.lowerBound * c, x, size: size, channels: c, into: out + (row - rows.lowerBound) * width)
      }
    }
  }

  /// One row. Four channels at a time: lanes beyond the last channel hold neighbours, and what they write is overwritten
  /// by the next pixel, or lies in the row's padding.
  private static func filter(
    _ line: UnsafePointer<Float>, _ x: Taps, size: Int, channels: Int, into out: UnsafeMutablePointer<Float>
  ) {
    for i in 0..<size {
      let source = line + Int(x.starts[i]) &* channels, weights = x.weights + i &* x.taps, taps = Int(x.counts[i])
      var c = 0
      while c < channels {
        var sum = SIMD4<Float>.zero, odd = SIMD4<Float>.zero, t = 0
        while t &+ 1 < taps {
          let p = UnsafeRawPointer(source + (t &* channels &+ c))
          sum.addProduct(SIMD4(repeating: weights[t]), p.loadUnaligned(as: SIMD4<Float>.self))
          odd.addProduct(
            SIMD4(repeating: weights[t &+ 1]), (p + 4 &* channels).loadUnaligned(as: SIMD4<Float>.self))
          t &+= 2
        }
        if t < taps {
          let p = UnsafeRawPointer(source + (t &* channels &+ c))
          sum.addProduct(SIMD4(repeating: weights[t]), p.loadUnaligned(as: SIMD4<Float>.self))
        }
        UnsafeMutableRawPointer(out + (i &* channels &+ c)).storeBytes(of: sum + odd, as: SIMD4<Float>.self)
        c &+= 4
      }
    }
  }

  private func alongColumns(
    _ rows: UnsafePointer<Float>, _ width: Int, top: Int, _ y: Taps, channels c: Int
  ) {
    let line = workspace.floats(.line, width), zero = SIMD16<Float>.zero, one = SIMD16<Float>(repeating: 1)
    for i in 0..<size {
      let source = rows + (Int(y.starts[i]) &- top) &* width, weights = y.weights + i &* y.taps
      let taps = Int(y.counts[i])
      var j = 0
      while j < size &* c {
        var sum = SIMD16<Float>.zero
        for t in 0..<taps {
          sum.addProduct(
            SIMD16(repeating: weights[t]),
            UnsafeRawPointer(source + (t &* width &+ j)).loadUnaligned(as: SIMD16<Float>.self))
        }
        sum.replace(with: zero, where: sum .< zero)
        sum.replace(with: one, where: sum .> one)
        UnsafeMutableRawPointer(line + j).storeBytes(of: sum, as: SIMD16<Float>.self)
        j &+= 16
      }
      split(line, row: i, channels: c)
    }
  }

  /// Interleaved values of one row into the planes.
  private func split(_ line: UnsafePointer<Float>, row: Int, channels c: Int) {
    if c == 3 {
      let r = plane(0) + row * size, g = plane(1) + row * size, b = plane(2) + row * size
      for j in 0..<size {
        r[j] = line[3 &* j]
        g[j] = line[3 &* j &+ 1]
        b[j] = line[3 &* j &+ 2]
      }
      return
    }
    for channel in 0..<c {
      let p = plane(channel) + row * size
      for j in 0..<size { p[j] = line[j &* c &+ channel] }
    }
  }
}
