/// The passes of batch normalisation over one image: (rows, C), C contiguous. Sums run in Float over at most
/// `rowsPerSum` rows and then in Double, so the error does not grow with the image.
extension BatchNorm {
  private static let rowsPerSum = 32

  /// Adds Σ(x − shift) and Σ(x − shift)² of every channel.
  static func moments(_ x: UnsafePointer<Float>, rows: Int, _ c: Int, shift: UnsafePointer<Float>, _ sums: UnsafeMutablePointer<Double>) {
    var from = 0
    while from < rows {
      let to = min(rows, from &+ rowsPerSum)
      var i = 0
      while i &+ 16 <= c {
        let base = shift.lanes(i)
        var first = Lanes16(), second = Lanes16(), at = from &* c &+ i
        for _ in from..<to {
          let value = x.lanes(at) - base
          first += value
          second.addProduct(value, value)
          at &+= c
        }
        for lane in 0..<16 {
          sums[i &+ lane] += Double(first[lane])
          sums[c &+ i &+ lane] += Double(second[lane])
        }
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

  /// y = max(floor, (x − mean)·scale + shift + residual)
  static func normalise(
    _ x: UnsafePointer<Float>, _ residual: UnsafePointer<Float>?, _ y: UnsafeMutablePointer<Float>, rows: Int, _ c: Int,
    mean: UnsafePointer<Float>, scale: UnsafePointer<Float>, shift: UnsafePointer<Float>, floor: Float
  ) {
    let least = Lanes16(repeating: floor)
    for row in 0..<rows {
      let start = row &* c
      var i = 0
      while i &+ 16 <= c {
        var value = shift.lanes(i).addingProduct(x.lanes(start &+ i) - mean.lanes(i), scale.lanes(i))
        if let residual { value += residual.lanes(start &+ i) }
        // Written so that NaN stays NaN.
        y.store(value.replacing(with: least, where: value .< least), start &+ i)
        i &+= 16
      }
      while i < c {
        var value = shift[i].addingProduct(x[start &+ i] - mean[i], scale[i])
        if let residual { value += residual[start &+ i] }
        y[start &+ i] = value < floor ? floor : value
        i &+= 1
      }
    }
  }

  /// Masks dy by y > 0 in place, and adds Σdy and Σdy·x̂ of every channel.
  static func moments(
    gradient dy: UnsafeMutablePointer<Float>, y: UnsafePointer<Float>?, x: UnsafePointer<Float>, rows: Int, _ c: Int,
    mean: UnsafePointer<Float>, inverse: UnsafePointer<Float>, _ sums: UnsafeMutablePointer<Double>
  ) {
    let zero = Lanes16()
    var from = 0
    while from < rows {
      let to = min(rows, from &+ rowsPerSum)
      var i = 0
      while i &+ 16 <= c {
        let centre = mean.lanes(i), unit = inverse.lanes(i)
        var first = Lanes16(), second = Lanes16(), at = from &* c &+ i
        for _ in from..<to {
          var value = dy.lanes(at)
          if let y {
            value = value.replacing(with: zero, where: y.lanes(at) .<= zero)
            dy.store(value, at)
          }
          first += value
          second.addProduct(value, (x.lanes(at) - centre) * unit)
          at &+= c
        }
        for lane in 0..<16 {
          sums[i &+ lane] += Double(first[lane])
          sums[c &+ i &+ lane] += Double(second[lane])
        }
        i &+= 16
      }
      while i < c {
        for row in from..<to {
          let at = row &* c &+ i
          if let y, y[at] <= 0 { dy[at] = 0 }
          sums[i] += Double(dy[at])
          sums[c &+ i] += Double(dy[at]) * Double((x[at] - mean[i]) * inverse[i])
        }
        i &+= 1
      }
      from = to
    }
  }

  /// x ← a·(dy − b − (x − mean)·k)
  static func gradient(
    _ dy: UnsafePointer<Float>, x: UnsafeMutablePointer<Float>, rows: Int, _ c: Int, mean: UnsafePointer<Float>,
    a: UnsafePointer<Float>, b: UnsafePointer<Float>, k: UnsafePointer<Float>
  ) {
    for row in 0..<rows {
      let start = row &* c
      var i = 0
      while i &+ 16 <= c {
        let centred = x.lanes(start &+ i) - mean.lanes(i)
        x.store(a.lanes(i) * (dy.lanes(start &+ i) - b.lanes(i) - centred * k.lanes(i)), start &+ i)
        i &+= 16
      }
      while i < c {
        x[start &+ i] = a[i] * (dy[start &+ i] - b[i] - (x[start &+ i] - mean[i]) * k[i])
        i &+= 1
      }
    }
  }
}
