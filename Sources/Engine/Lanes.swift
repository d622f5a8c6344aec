import CSystem

/// The floats that kernels process at once, by the processor that they are compiled for: sixteen with AVX-512, else
/// eight.
package typealias Lanes = csystem_lanes

/// Sixteen channels of a row: one AVX-512 register, or two of AVX2.
package typealias Lanes16 = SIMD16<Float>

extension Lanes {
  /// Floats from any alignment.
  @inline(__always)
  init(loading from: UnsafePointer<Float>) { self = UnsafeRawPointer(from).loadUnaligned(as: Lanes.self) }

  /// Overwrites as many floats, or adds to them.
  @inline(__always)
  func store(_ to: UnsafeMutablePointer<Float>, accumulate: Bool) {
    let value = accumulate ? self + Lanes(loading: to) : self
    UnsafeMutableRawPointer(to).storeBytes(of: value, as: Lanes.self)
  }

  /// self + factor · other.
  @inline(__always)
  func addingProduct(_ factor: Float, _ other: Self) -> Self {
    addingProduct(Self(repeating: factor), other)
  }
}

extension UnsafePointer<Float> {
  /// Sixteen floats from `offset`, at any alignment.
  @inline(__always) func lanes(_ offset: Int) -> Lanes16 {
    UnsafeRawPointer(self + offset).loadUnaligned(as: Lanes16.self)
  }

  /// Σ of the products, element by element.
  @inline(__always) func dot(_ other: UnsafePointer<Float>, count: Int) -> Float {
    var sums = Lanes16()
    var i = 0
    while i &+ 16 <= count {
      sums.addProduct(lanes(i), other.lanes(i))
      i &+= 16
    }
    var sum = sums.sum()
    while i < count {
      sum += self[i] * other[i]
      i &+= 1
    }
    return sum
  }
}

extension UnsafeMutablePointer<Float> {
  @inline(__always) func lanes(_ offset: Int) -> Lanes16 {
    UnsafeRawPointer(self + offset).loadUnaligned(as: Lanes16.self)
  }

  @inline(__always) func store(_ lanes: Lanes16, _ offset: Int) {
    UnsafeMutableRawPointer(self + offset).storeBytes(of: lanes, as: Lanes16.self)
  }

  /// Adds `other` element by element.
  @inline(__always) func add(_ other: UnsafePointer<Float>, count: Int) {
    var i = 0
    while i &+ 16 <= count {
      store(lanes(i) + other.lanes(i), i)
      i &+= 16
    }
    while i < count {
      self[i] += other[i]
      i &+= 1
    }
  }
}

extension UnsafeMutablePointer<Float> {
  /// Adds a multiple of `other` element by element.
  @inline(__always) func add(_ other: UnsafePointer<Float>, times factor: Float, count: Int) {
    let factors = Lanes16(repeating: factor)
    var i = 0
    while i &+ 16 <= count {
      store(lanes(i).addingProduct(factors, other.lanes(i)), i)
      i &+= 16
    }
    while i < count {
      self[i] += factor * other[i]
      i &+= 1
    }
  }
}

/// Elements in one block of an elementwise pass: large enough to be worth a thread's while, small enough to balance.
let elementsPerBlock = 1 << 15

extension Context {
  /// Runs `body` over 0 ..< count in blocks of a fixed size.
  package func elementwise(_ count: Int, _ body: (Range<Int>) -> Void) {
    run((count + elementsPerBlock - 1) / elementsPerBlock) { block, _ in
      body(block * elementsPerBlock..<min(count, (block + 1) * elementsPerBlock))
    }
  }
}
