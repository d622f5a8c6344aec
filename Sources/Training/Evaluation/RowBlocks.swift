import Engine
import Ranks

/// Rows in blocks whose borders do not depend on ranks or threads, so that every block's arithmetic has the same bits
/// on any number of them. A rank owns a range of blocks.
struct RowBlocks {
  let rows: Int
  /// Rows of a block; the last may be smaller.
  let size: Int

  var count: Int { (rows + size - 1) / size }
  /// The rank's blocks.
  func share(of communicator: any Communicator) -> Range<Int> {
    communicator.rank * count / communicator.size..<(communicator.rank + 1) * count / communicator.size
  }
  /// Rows of a block.
  func rows(of block: Int) -> Range<Int> { block * size..<min(rows, (block + 1) * size) }
  /// Rows of a range of blocks.
  func rows(of blocks: Range<Int>) -> Range<Int> {
    min(rows, blocks.lowerBound * size)..<min(rows, blocks.upperBound * size)
  }
}
