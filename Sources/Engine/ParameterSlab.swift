import Foundation

/// Where a parameter lies in its slab.
package struct Slice: Sendable {
  package let offset: Int, count: Int
}

/// What a parameter is. Optimizers decide by it who takes part in decay and in trust ratios.
package enum ParameterKind: String, Sendable, Codable {
  case weight, bias
  /// γ and β of a normalisation.
  case scale, shift
  /// Running mean and variance; never differentiated.
  case mean, variance
}

/// The table of a slab: every parameter with its name, shape, kind and place.
package struct ParameterLayout: Sendable {
  package struct Entry: Sendable {
    /// torchvision's name, such as `layer1.0.conv1.weight`.
    package let name: String
    /// In our order: (R, S, C, K) for a convolution, (in, out) for a linear layer, (C) for the others.
    package let shape: [Int]
    package let kind: ParameterKind
    package let slice: Slice
    package let initialisation: Initialisation
    /// Left as it is by the optimizer.
    package var frozen = false
    /// Factor on the learning rate.
    package var rateFactor: Float = 1
  }

  package private(set) var entries: [Entry] = []
  /// Floats in the slab, padding included: every parameter starts on a cache line.
  package private(set) var count = 0

  package init() {}

  /// Appends a parameter; names are unique.
  package mutating func add(_ name: String, _ shape: [Int], _ kind: ParameterKind, _ initialisation: Initialisation)
    -> Slice
  {
    precondition(!entries.contains { $0.name == name }, "two parameters are named \(name)")
    let slice = Slice(offset: count, count: shape.reduce(1, *))
    entries.append(Entry(name: name, shape: shape, kind: kind, slice: slice, initialisation: initialisation))
    count += (slice.count + 15) & ~15
    return slice
  }

  /// Says how the optimizer treats the parameters whose names start with `prefix`; nil leaves it as it is.
  package mutating func set(prefix: String, frozen: Bool? = nil, rateFactor: Float? = nil) {
    for i in entries.indices where entries[i].name.hasPrefix(prefix) {
      if let frozen { entries[i].frozen = frozen }
      if let rateFactor { entries[i].rateFactor = rateFactor }
    }
  }

  package func entry(_ name: String) -> Entry? { entries.first { $0.name == name } }

  /// Parameters without padding.
  package var parameterCount: Int { entries.reduce(0) { $0 + $1.slice.count } }

  /// Floats that the parameters whose names start with `prefix` span; they are neighbours.
  package func range(prefix: String) -> Range<Int> {
    let matching = entries.filter { $0.name.hasPrefix(prefix) }
    guard let first = matching.first, let last = matching.last else { return 0..<0 }
    return first.slice.offset..<(last.slice.offset + last.slice.count)
  }
}

/// All parameters of one network in one aligned buffer. Values, gradients and momentum share a layout, so zeroing,
/// blending, all-reduce, update and checkpoint are passes over one buffer. Padding stays zero.
package final class ParameterSlab {
  package let layout: ParameterLayout
  package let data: UnsafeMutablePointer<Float>

  package init(_ layout: ParameterLayout) {
    self.layout = layout
    let bytes = max(layout.count, 16) * MemoryLayout<Float>.stride
    data = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64).bindMemory(
      to: Float.self, capacity: layout.count)
    memset(data, 0, bytes)
  }

  deinit { UnsafeMutableRawPointer(data).deallocate() }

  package var count: Int { layout.count }
  package var buffer: UnsafeMutableBufferPointer<Float> { UnsafeMutableBufferPointer(start: data, count: count) }

  package subscript(_ slice: Slice) -> UnsafeMutablePointer<Float> { data + slice.offset }

  package func zero() { memset(data, 0, count * MemoryLayout<Float>.stride) }

  package func copy(_ other: ParameterSlab) {
    precondition(count == other.count, "a slab of \(count) floats copied from one of \(other.count)")
    memcpy(data, other.data, count * MemoryLayout<Float>.stride)
  }

  /// θ ← m·θ + (1 − m)·other, the momentum update of a key or target encoder.
  package func blend(toward other: ParameterSlab, momentum m: Float) {
    precondition(count == other.count, "a slab of \(count) floats blended with one of \(other.count)")
    let lanes = count / 16
    let a = UnsafeMutableRawPointer(data).assumingMemoryBound(to: SIMD16<Float>.self)
    let b = UnsafeRawPointer(other.data).assumingMemoryBound(to: SIMD16<Float>.self)
    let keep = SIMD16<Float>(repeating: m)
    let take = SIMD16<Float>(repeating: 1 - m)
    for i in 0..<lanes { a[i] = keep * a[i] + take * b[i] }
  }
}
