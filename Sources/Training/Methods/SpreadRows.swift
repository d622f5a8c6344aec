import Engine
import Foundation
import Ranks
import Shards

/// A matrix whose rows are distributed over the ranks in contiguous shares. So a bank may be larger than one rank's
/// memory.
final class SpreadRows {
  /// Numbers of rows and columns of the whole matrix.
  let count: Int, dimension: Int
  /// The rows on this rank.
  let rows: Range<Int>
  private let memory: ZeroedMemory
  private let values: UnsafeMutableBufferPointer<Float>

  /// All zeros. Pages are allocated at the first write, so that a run that is too large can be refused before.
  init(count: Int, dimension: Int, _ context: Context) {
    self.count = count
    self.dimension = dimension
    rows = share(of: count, rank: context.communicator.rank, ranks: context.communicator.size)
    memory = ZeroedMemory(bytes: rows.count * dimension * MemoryLayout<Float>.stride, for: "a bank of \(count) rows")
    values = memory.bind(to: Float.self, count: rows.count * dimension)
  }

  /// (rows here, D)
  var tensor: Tensor { Tensor(values.baseAddress!, n: rows.count, c: dimension) }

  /// A row by its index in the whole matrix; nil if another rank has it.
  subscript(row: Int) -> UnsafeMutablePointer<Float>? {
    rows.contains(row) ? values.baseAddress! + (row - rows.lowerBound) * dimension : nil
  }

  func zero() { values.update(repeating: 0) }

  func saved(_ name: String) -> SavedState { SavedState(name, shape: [count, dimension], rows: rows, floats: values) }
}
