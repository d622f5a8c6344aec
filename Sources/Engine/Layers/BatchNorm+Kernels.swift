import CSystem

/// The passes of batch normalisation over one image: (rows, C), C contiguous. Sums run in Float over at most
/// `rowsPerSum` rows and then in Double, so the error does not grow with the image.
extension BatchNorm {
  private static let rowsPerSum = 8

  // Sums take 16 channels of 8 rows at a time, then the next channels of the same rows: no more streams than the
  // hardware prefetcher follows. With 32 rows a pass took up to twice as long. The next rows are prefetched as well.

  /// Adds Σ(x − shift) and Σ(x − shift)² of every channel.
  static func moments(
    _ x: UnsafePointer<Float>, rows: Int, _ c: Int, shift: UnsafePointer<Float>, _ sums: UnsafeMutablePointer<Double>
  ) {
    let ahead = rowsPerSum &* c
    var from = 0
    while from < rows {
      let to = min(rows, from &+ rowsPerSum)
      var i = 0
      while i &+ 16 <= c {
        let base = shift.lanes(i)
        var first = Lanes16()
        var second = Lanes16()
        var at = from &* c &+ i
        for _ in from..<to {
          csystem_prefetch(x + (at &+ ahead))
          let value = x.lanes(at) - base
          first += value
          second.addProduct(value, value)
          at &+= c
        }
        (sums + i).add(first)
        (sums + (c &+ i)).add(second)
        i &+= 16
      }
      while i < c {
        for row in from..<to {
          let value = Double(x[row &* c &+ i]) - Double(shift[i])
          sums[i] += value
          sums[c &+ i] += value * value
        }
        i &+= 1
      }
      from = to
    }
  }

  /// Adds Σdy and Σdy·x̂ of every channel, dy masked by the ReLU.
  static func moments<Mask: ReLUMask>(
    gradient dy: UnsafeMutablePointer<Float>, x: UnsafePointer<Float>, rows: Int, _ c: Int, mean: UnsafePointer<Float>,
    inverse: UnsafePointer<Float>, _ mask: Mask, _ sums: UnsafeMutablePointer<Double>
  ) {
    let ahead = rowsPerSum &* c
    var from = 0
    while from < rows {
      let to = min(rows, from &+ rowsPerSum)
      var i = 0
      while i &+ 16 <= c {
        let centre = mean.lanes(i)
        let unit = inverse.lanes(i)
        var first = Lanes16()
        var second = Lanes16()
        var at = from &* c &+ i
        for _ in from..<to {
          csystem_prefetch(x + (at &+ ahead))
          csystem_prefetch(dy + (at &+ ahead))
          mask.prefetch(at &+ ahead)
          let centred = x.lanes(at) - centre
          let value = mask.apply(dy.lanes(at), centred, at, channel: i)
          if Mask.isStored { dy.store(value, at) }
          first += value
          second.addProduct(value, centred * unit)
          at &+= c
        }
        (sums + i).add(first)
        (sums + (c &+ i)).add(second)
        i &+= 16
      }
      while i < c {
        for row in from..<to {
          let at = row &* c &+ i
          let centred = x[at] - mean[i]
          let value = mask.apply(dy[at], centred, at, channel: i)
          if Mask.isStored { dy[at] = value }
          sums[i] += Double(value)
          sums[c &+ i] += Double(value) * Double(centred * inverse[i])
        }
        i &+= 1
      }
      from = to
    }
  }

  /// x ← a·(dy − b − (x − mean)·k), dy masked by the ReLU.
  static func gradient<Mask: ReLUMask>(
    _ dy: UnsafePointer<Float>, x: UnsafeMutablePointer<Float>, rows: Int, _ c: Int, mean: UnsafePointer<Float>,
    a: UnsafePointer<Float>, b: UnsafePointer<Float>, k: UnsafePointer<Float>, _ mask: Mask
  ) {
    for row in 0..<rows {
      let start = row &* c
      var i = 0
      while i &+ 16 <= c {
        let at = start &+ i
        let centred = x.lanes(at) - mean.lanes(i)
        let value = Mask.isStored ? dy.lanes(at) : mask.apply(dy.lanes(at), centred, at, channel: i)
        x.store(a.lanes(i) * (value - b.lanes(i) - centred * k.lanes(i)), at)
        i &+= 16
      }
      while i < c {
        let at = start &+ i
        let centred = x[at] - mean[i]
        let value = Mask.isStored ? dy[at] : mask.apply(dy[at], centred, at, channel: i)
        x[at] = a[i] * (value - b[i] - centred * k[i])
        i &+= 1
      }
    }
  }
}

extension UnsafeMutablePointer<Double> {
  /// Adds sixteen floats.
  @inline(__always) fileprivate func add(_ lanes: Lanes16) {
    let low = UnsafeMutableRawPointer(self)
    let high = low + 64
    low.storeBytes(of: low.loadUnaligned(as: SIMD8<Double>.self) + SIMD8<Double>(lanes.lowHalf), as: SIMD8<Double>.self)
    high.storeBytes(
      of: high.loadUnaligned(as: SIMD8<Double>.self) + SIMD8<Double>(lanes.highHalf), as: SIMD8<Double>.self)
  }
}
