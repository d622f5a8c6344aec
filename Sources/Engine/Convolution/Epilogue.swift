/// What follows a convolution: normalisation, the residual sum and the ReLU,
///
///     y = max(floor, (z − mean)·scale + shift + residual)
///
/// Where z is not kept, a convolution applies it to each block of its output that is still in the cache. Everything
/// that applies it computes the same bits.
package struct Epilogue {
  /// By channel.
  let mean: UnsafePointer<Float>, scale: UnsafePointer<Float>, shift: UnsafePointer<Float>
  /// The place of the first output in the map that is added.
  let residual: UnsafePointer<Float>?
  /// 0 for a ReLU, otherwise -∞.
  let floor: Float

  package init(
    mean: UnsafePointer<Float>, scale: UnsafePointer<Float>, shift: UnsafePointer<Float>,
    residual: UnsafePointer<Float>?, floor: Float
  ) {
    self.mean = mean
    self.scale = scale
    self.shift = shift
    self.residual = residual
    self.floor = floor
  }

  /// The same for outputs that begin so many floats later.
  @inline(__always)
  func moved(by offset: Int) -> Epilogue {
    Epilogue(mean: mean, scale: scale, shift: shift, residual: residual.map { $0 + offset }, floor: floor)
  }

  /// Applies it to a register of the output.
  /// - Parameters:
  ///   - place: of the first float in the map.
  ///   - channel: of the first float.
  @inline(__always)
  func apply(_ z: Lanes, at place: Int, channel: Int) -> Lanes {
    var y = Lanes(loading: shift + channel)
      .addingProduct(z - Lanes(loading: mean + channel), Lanes(loading: scale + channel))
    if let residual { y += Lanes(loading: residual + place) }
    let least = Lanes(repeating: floor)
    // Written so that NaN stays NaN.
    return y.replacing(with: least, where: y .< least)
  }

  /// Applies it to one float of the output.
  @inline(__always)
  func apply(_ z: Float, at place: Int, channel: Int) -> Float {
    var y = shift[channel].addingProduct(z - mean[channel], scale[channel])
    if let residual { y += residual[place] }
    return y < floor ? floor : y
  }

  /// Applies it to whole rows of `channels` floats, which may be replaced in place.
  func apply(
    _ z: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>, rows: Int, channels: Int
  ) {
    for row in 0..<rows {
      let start = row &* channels
      var i = 0
      while i &+ Lanes.scalarCount <= channels {
        let at = start &+ i
        apply(Lanes(loading: z + at), at: at, channel: i).store(y + at, accumulate: false)
        i &+= Lanes.scalarCount
      }
      while i < channels {
        y[start &+ i] = apply(z[start &+ i], at: start &+ i, channel: i)
        i &+= 1
      }
    }
  }
}
