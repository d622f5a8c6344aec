/// The weights of a resize along one axis: output i is Σ weights[i·taps + t] · input[starts[i] + t], 0 ≤ t < taps.
struct Taps {
  /// An even number, the same for every output, so that the processor predicts the loop over them. An output that needs
  /// fewer has zero weights for the rest, which may read beyond the clip's end.
  let taps: Int
  let starts: UnsafePointer<Int32>
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
    let step = extent / Double(size)
    let stretch = max(step, 1)
    let support = interpolation.support * stretch
    let most = Int(support.rounded(.up)) * 2 + 2
    let weights = workspace.floats(slot, size * (most + 1))
    let starts = UnsafeMutableRawPointer(weights + size * most).assumingMemoryBound(to: Int32.self)
    func bounds(_ i: Int) -> (centre: Double, start: Int, end: Int) {
      let centre = origin + (Double(i) + 0.5) * step
      let start = min(max(Int((centre - support + 0.5).rounded(.towardZero)), clip.lowerBound), clip.upperBound - 1)
      return (centre, start, max(start + 1, min(Int((centre + support + 0.5).rounded(.towardZero)), clip.upperBound)))
    }
    var taps = 0
    for i in 0..<size { taps = max(taps, bounds(i).end - bounds(i).start) }
    taps = (taps + 1) / 2 * 2
    for i in 0..<size {
      let (centre, start, end) = bounds(i)
      let row = weights + i * taps
      var total = 0.0
      for t in 0..<taps {
        let value = start + t < end ? interpolation.value((Double(start + t) - centre + 0.5) / stretch) : 0
        row[t] = Float(value)
        total += value
      }
      let scale = factor / total
      for t in 0..<end - start {
        row[t] = Float(interpolation.value((Double(start + t) - centre + 0.5) / stretch) * scale)
      }
      starts[i] = Int32(start)
    }
    self.taps = taps
    self.weights = UnsafePointer(weights)
    self.starts = UnsafePointer(starts)
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
    let top = Int(y.starts[0])
    let bottom = min(Int(y.starts[size - 1]) + y.taps, clip.y + clip.height)
    let width = (size * pixels.channels + 15) / 16 * 16 + 16
    // Zero weights read rows behind the last one. Those hold values of earlier images, never NaN.
    let rows = workspace.floats(.columns, (bottom - top + y.taps) * width)
    alongRows(pixels, x, rows: top..<bottom, columns: clip.x..<clip.x + clip.width, into: rows, width)
    alongColumns(rows, width, top: top, y, channels: pixels.channels)
    for c in pixels.channels..<channels { plane(c).update(from: planes, count: area) }
  }

  /// - Parameter out: a row of size · channels values every `width` floats.
  private func alongRows(
    _ pixels: Pixels, _ x: Taps, rows: Range<Int>, columns: Range<Int>, into out: UnsafeMutablePointer<Float>,
    _ width: Int
  ) {
    let c = pixels.channels
    let count = columns.count * c
    let line = workspace.floats(.row, count + (x.taps + 4) * c + 16)
    pixels.bytes.withUnsafeBytes { bytes in
      for row in rows {
        let start = (row * pixels.width + columns.lowerBound) * c
        if pixels.depth == 8 {
          let source = (bytes.baseAddress! + start).assumingMemoryBound(to: UInt8.self)
          for i in 0..<count { line[i] = Float(source[i]) }
        } else {
          let source = bytes.baseAddress! + start * 2
          for i in 0..<count { line[i] = Float(source.loadUnaligned(fromByteOffset: i &* 2, as: UInt16.self)) }
        }
        let target = out + (row - rows.lowerBound) * width
        Self.filter(line - columns.lowerBound * c, x, size: size, channels: c, into: target)
      }
    }
  }

  /// Resizes one row, four channels at a time. Lanes beyond the last channel compute values of neighbours; the next
  /// pixel overwrites them, and those of the last pixel lie in the row's padding.
  private static func filter(
    _ line: UnsafePointer<Float>, _ x: Taps, size: Int, channels: Int, into out: UnsafeMutablePointer<Float>
  ) {
    let taps = x.taps
    for i in 0..<size {
      let source = line + Int(x.starts[i]) &* channels
      let weights = x.weights + i &* taps
      var c = 0
      while c < channels {
        var even = SIMD4<Float>.zero
        var odd = SIMD4<Float>.zero
        var t = 0
        var p = UnsafeRawPointer(source + c)
        while t < taps {
          even.addProduct(SIMD4(repeating: weights[t]), p.loadUnaligned(as: SIMD4<Float>.self))
          odd.addProduct(
            SIMD4(repeating: weights[t &+ 1]), p.loadUnaligned(fromByteOffset: 4 &* channels, as: SIMD4<Float>.self))
          p += 8 &* channels
          t &+= 2
        }
        UnsafeMutableRawPointer(out + (i &* channels &+ c)).storeBytes(of: even + odd, as: SIMD4<Float>.self)
        c &+= 4
      }
    }
  }

  private func alongColumns(
    _ rows: UnsafePointer<Float>, _ width: Int, top: Int, _ y: Taps, channels c: Int
  ) {
    let line = workspace.floats(.line, width + 64)
    for i in 0..<size {
      let source = rows + (Int(y.starts[i]) &- top) &* width
      weighted(source, step: width, y.weights + i &* y.taps, y.taps, count: size &* c, into: line)
      split(line, row: i, channels: c)
    }
  }

  /// Interleaved values of one row into the planes, clamped.
  private func split(_ line: UnsafePointer<Float>, row: Int, channels c: Int) {
    if c == 3 {
      let r = plane(0) + row * size
      let g = plane(1) + row * size
      let b = plane(2) + row * size
      for j in 0..<size {
        r[j] = unit(line[3 &* j])
        g[j] = unit(line[3 &* j &+ 1])
        b[j] = unit(line[3 &* j &+ 2])
      }
      return
    }
    for channel in 0..<c {
      let p = plane(channel) + row * size
      for j in 0..<size { p[j] = unit(line[j &* c &+ channel]) }
    }
  }
}

/// out[i] = Σ weights[t] · source[i + t·step] for i in 0 ..< count. Reads and writes whole vectors of 16, four at a
/// time, so that one sum need not wait for another.
func weighted(
  _ source: UnsafePointer<Float>, step: Int, _ weights: UnsafePointer<Float>, _ taps: Int, count: Int,
  into out: UnsafeMutablePointer<Float>
) {
  typealias Vector = SIMD16<Float>
  let stride = step &* 4
  var i = 0
  while i &+ 48 < count {
    var a = Vector.zero
    var b = Vector.zero
    var c = Vector.zero
    var d = Vector.zero
    var p = UnsafeRawPointer(source + i)
    for t in 0..<taps {
      let w = Vector(repeating: weights[t])
      a.addProduct(w, p.loadUnaligned(as: Vector.self))
      b.addProduct(w, p.loadUnaligned(fromByteOffset: 64, as: Vector.self))
      c.addProduct(w, p.loadUnaligned(fromByteOffset: 128, as: Vector.self))
      d.addProduct(w, p.loadUnaligned(fromByteOffset: 192, as: Vector.self))
      p += stride
    }
    let q = UnsafeMutableRawPointer(out + i)
    q.storeBytes(of: a, as: Vector.self)
    q.storeBytes(of: b, toByteOffset: 64, as: Vector.self)
    q.storeBytes(of: c, toByteOffset: 128, as: Vector.self)
    q.storeBytes(of: d, toByteOffset: 192, as: Vector.self)
    i &+= 64
  }
  while i < count {
    var a = Vector.zero
    var p = UnsafeRawPointer(source + i)
    for t in 0..<taps {
      a.addProduct(Vector(repeating: weights[t]), p.loadUnaligned(as: Vector.self))
      p += stride
    }
    UnsafeMutableRawPointer(out + i).storeBytes(of: a, as: Vector.self)
    i &+= 16
  }
}
