import Engine
import Foundation
import Ranks
import Shards

/// A matrix whose rows are spread over the ranks by their number: a bank may be larger than any rank's memory.
final class SpreadRows {
  /// Rows of the whole matrix, and columns.
  let count: Int, dimension: Int
  /// Which rows are here.
  let rows: Range<Int>
  private let memory: ZeroedMemory
  private let values: UnsafeMutableBufferPointer<Float>

  /// All zeros. Memory is taken when it is written to, so that a run which is too large can be refused in words.
  init(count: Int, dimension: Int, _ context: Context) {
    self.count = count
    self.dimension = dimension
    rows = share(of: count, rank: context.communicator.rank, ranks: context.communicator.size)
    memory = ZeroedMemory(bytes: rows.count * dimension * MemoryLayout<Float>.stride, for: "a bank of \(count) rows")
    values = memory.bind(to: Float.self, count: rows.count * dimension)
  }

  /// (rows here, D)
  var tensor: Tensor { Tensor(values.baseAddress!, n: rows.count, c: dimension) }

  /// A row by its number in the whole matrix; nil where another rank has it.
  subscript(row: Int) -> UnsafeMutablePointer<Float>? {
    rows.contains(row) ? values.baseAddress! + (row - rows.lowerBound) * dimension : nil
  }

  func zero() { values.update(repeating: 0) }

  func saved(_ name: String) -> SavedState { SavedState(name, shape: [count, dimension], rows: rows, floats: values) }
}
