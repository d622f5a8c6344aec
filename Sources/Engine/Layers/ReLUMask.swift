import CSystem

/// The ReLU's gradient: where the output was not above 0, that of the output does not count.
protocol ReLUMask {
  /// Whether the masked gradient is written back, being a residual's as well.
  static var isStored: Bool { get }
  /// - centred: x − μ. at: the element. channel: of it.
  func apply(_ dy: Lanes16, _ centred: Lanes16, _ at: Int, channel: Int) -> Lanes16
  func apply(_ dy: Float, _ centred: Float, _ at: Int, channel: Int) -> Float
  /// Asks for what it reads of an element.
  func prefetch(_ at: Int)
  /// For an image that starts `start` elements on, and a group whose statistics do `group` channels on.
  func moved(by start: Int, group: Int) -> Self
}

extension ReLUMask {
  @inline(__always) func prefetch(_: Int) {}
}

/// There was no ReLU.
struct NoMask: ReLUMask {
  static var isStored: Bool { false }
  @inline(__always) func apply(_ dy: Lanes16, _: Lanes16, _: Int, channel _: Int) -> Lanes16 { dy }
  @inline(__always) func apply(_ dy: Float, _: Float, _: Int, channel _: Int) -> Float { dy }
  func moved(by _: Int, group _: Int) -> Self { self }
}

/// From the output, which was kept.
struct KeptMask: ReLUMask {
  let y: UnsafePointer<Float>
  init(y: UnsafePointer<Float>) { self.y = y }
  static var isStored: Bool { true }
  @inline(__always) func prefetch(_ at: Int) { csystem_prefetch(y + at) }
  @inline(__always) func apply(_ dy: Lanes16, _: Lanes16, _ at: Int, channel _: Int) -> Lanes16 {
    dy.replacing(with: Lanes16(), where: y.lanes(at) .<= Lanes16())
  }
  @inline(__always) func apply(_ dy: Float, _: Float, _ at: Int, channel _: Int) -> Float { y[at] <= 0 ? 0 : dy }
  func moved(by start: Int, group _: Int) -> Self { KeptMask(y: y + start) }
}

/// From the output's sign, made again as `normalise` does.
struct MadeMask: ReLUMask {
  let scale: UnsafePointer<Float>, shift: UnsafePointer<Float>
  init(scale: UnsafePointer<Float>, shift: UnsafePointer<Float>) {
    self.scale = scale
    self.shift = shift
  }
  static var isStored: Bool { false }
  @inline(__always) func apply(_ dy: Lanes16, _ centred: Lanes16, _: Int, channel i: Int) -> Lanes16 {
    dy.replacing(with: Lanes16(), where: shift.lanes(i).addingProduct(centred, scale.lanes(i)) .<= Lanes16())
  }
  @inline(__always) func apply(_ dy: Float, _ centred: Float, _: Int, channel i: Int) -> Float {
    shift[i].addingProduct(centred, scale[i]) <= 0 ? 0 : dy
  }
  func moved(by _: Int, group: Int) -> Self { MadeMask(scale: scale + group, shift: shift) }
}
