import Engine
import Randomness

/// A first-in, first-out queue of keys, replicated on every rank. Writes wrap around at its end.
final class KeyQueue {
  let count: Int, dimension: Int
  private let memory: ZeroedMemory
  private let keys: UnsafeMutableBufferPointer<Float>
  private let pointer = UnsafeMutableBufferPointer<Int64>.allocate(capacity: 1)

  /// All zeros. Pages are allocated at the first write, so that a run that is too large can be refused before.
  init(count: Int, dimension: Int) {
    self.count = count
    self.dimension = dimension
    memory = ZeroedMemory(bytes: count * dimension * MemoryLayout<Float>.stride, for: "a queue of \(count) keys")
    keys = memory.bind(to: Float.self, count: count * dimension)
    pointer.initialize(repeating: 0)
  }

  deinit { pointer.deallocate() }

  /// (Q, D)
  var tensor: Tensor { Tensor(keys.baseAddress!, n: count, c: dimension) }

  var saved: [SavedState] {
    [
      SavedState("queue/keys", shape: [count, dimension], floats: keys), SavedState("queue/pointer", integers: pointer),
    ]
  }

  /// Fills the queue with random unit vectors.
  func initialise(seed: UInt64) {
    for row in 0..<count {
      var draws = Draws(seed: seed, .queue, UInt64(row))
      let values = (0..<dimension).map { _ in draws.normal() }
      let norm = values.reduce(0) { $0 + $1 * $1 }.squareRoot()
      for i in 0..<dimension { keys[row * dimension + i] = Float(values[i] / norm) }
    }
    pointer[0] = 0
  }

  /// Overwrites the oldest keys.
  /// - batch: (B, D), the oldest first.
  func enqueue(_ batch: [Float]) {
    let rows = batch.count / dimension
    for row in 0..<rows {
      let place = (Int(pointer[0]) + row) % count
      for i in 0..<dimension { keys[place * dimension + i] = batch[row * dimension + i] }
    }
    pointer[0] = Int64((Int(pointer[0]) + rows) % count)
  }
}
