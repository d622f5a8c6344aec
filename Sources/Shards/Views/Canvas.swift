/// A view in the making: `channels` planes of size × size values in [0, 1], so that every operation runs along
/// contiguous values of one channel. The finished view is written out channels-last.
package struct Canvas {
  package let size: Int
  /// Planes in use: operations may leave fewer than there were.
  package internal(set) var channels: Int
  /// Floats from one plane to the next: a multiple of 16, with room for a vector load behind the last value.
  package let stride: Int
  /// As many as it was made with, `stride` floats each.
  package let planes: UnsafeMutablePointer<Float>
  let workspace: Workspace

  /// Borrows the planes from a workspace; valid until its next canvas.
  package init(size: Int, channels: Int, in workspace: Workspace) {
    self.size = size
    self.channels = channels
    self.workspace = workspace
    stride = (size * size + 31) / 16 * 16
    planes = workspace.floats(.planes, channels * stride)
  }

  /// Values in a plane.
  package var area: Int { size * size }

  package func plane(_ channel: Int) -> UnsafeMutablePointer<Float> { planes + channel * stride }

  /// Writes the view channels-last.
  /// - Parameter out: (size, size, channels).
  package func write(to out: UnsafeMutablePointer<Float>) {
    let n = area
    switch channels {
    case 1: out.update(from: planes, count: n)
    case 3:
      let r = plane(0)
      let g = plane(1)
      let b = plane(2)
      for i in 0..<n {
        out[3 &* i] = r[i]
        out[3 &* i &+ 1] = g[i]
        out[3 &* i &+ 2] = b[i]
      }
    default:
      for c in 0..<channels {
        let p = plane(c)
        for i in 0..<n { out[i &* channels &+ c] = p[i] }
      }
    }
  }

  /// Reads the view from channels-last values, (size, size, channels).
  package func read(from source: UnsafePointer<Float>) {
    for c in 0..<channels {
      let p = plane(c)
      for i in 0..<area { p[i] = source[i &* channels &+ c] }
    }
  }
}

/// A thread's scratch memory. Buffers grow to the largest size asked for and are then reused, so that a view costs no
/// allocation.
package final class Workspace {
  enum Slot: Int, CaseIterable { case planes, row, columns, line, blur, weightsX, weightsY }

  private var buffers = [UnsafeMutablePointer<Float>?](repeating: nil, count: Slot.allCases.count)
  private var capacities = [Int](repeating: 0, count: Slot.allCases.count)
  var startsX: [Int32] = [], startsY: [Int32] = []
  /// Bytes held.
  package var bytes: Int { capacities.reduce(0, +) * 4 }

  package init() {}

  deinit { for buffer in buffers { buffer?.deallocate() } }

  /// Room for `count` floats, 64-byte aligned; what it holds is kept only while it need not grow.
  func floats(_ slot: Slot, _ count: Int) -> UnsafeMutablePointer<Float> {
    if let buffer = buffers[slot.rawValue], capacities[slot.rawValue] >= count { return buffer }
    buffers[slot.rawValue]?.deallocate()
    let raw = UnsafeMutableRawPointer.allocate(byteCount: count * 4, alignment: 64)
    let buffer = raw.bindMemory(to: Float.self, capacity: count)
    // Vector loads may read behind a row's end, where no signalling NaN may be.
    buffer.initialize(repeating: 0, count: count)
    buffers[slot.rawValue] = buffer
    capacities[slot.rawValue] = count
    return buffer
  }
}
