/// Positions of a global batch that a rank owns: r·B/P ..< (r+1)·B/P. Everything that is split over ranks uses this
/// function, so that all splits agree. Shares differ by at most one position.
/// - Parameters:
///   - count: B, positions in the global batch.
///   - rank: r, in 0 ..< ranks.
///   - ranks: P.
package func share(of count: Int, rank: Int, ranks: Int) -> Range<Int> {
  precondition(count >= 0 && 0 <= rank && rank < ranks, "share of \(count) for rank \(rank) of \(ranks)")
  return rank * count / ranks..<(rank + 1) * count / ranks
}
