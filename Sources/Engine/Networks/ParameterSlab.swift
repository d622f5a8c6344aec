import Foundation

/// All parameters of one network in one aligned buffer. Values, gradients and the optimizer's state share a layout, so
/// zeroing, blending, all-reduce, update and checkpoint are passes over one buffer. Padding stays zero.
package final class ParameterSlab {
  package let layout: ParameterLayout
  package let data: UnsafeMutablePointer<Float>
  private let memory: ZeroedMemory

  /// All zeros, which take memory once they are written to.
  package init(_ layout: ParameterLayout) {
    self.layout = layout
    let count = max(layout.count, 16)
    memory = ZeroedMemory(bytes: count * MemoryLayout<Float>.stride, for: "a network's parameters")
    data = memory.bind(to: Float.self, count: count).baseAddress!
  }

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
