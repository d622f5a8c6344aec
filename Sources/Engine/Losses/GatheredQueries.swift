/// The queries of all ranks on every rank, for scores against candidates that are spread over the ranks: a bank of many
/// rows stays where it is, and the (B, D) queries travel.
///
/// Every rank scores all queries against its own candidates. A query's maxima and sums are merged over ranks, and its
/// gradient is the sum over ranks, so results do not depend on how the candidates are spread, beyond rounding.
package struct GatheredQueries {
  /// (B, D), of length one, rank by rank: the order of the global batch.
  package let all: Tensor
  /// Which of them are this rank's.
  package let own: Range<Int>
  /// (B, D): of the loss by `all`. Each rank writes what its own candidates say.
  let gradient: Tensor
  private let unit: UnitRows

  /// - Parameters:
  ///   - unit: (n, D) queries of this rank, of length one.
  ///   - shares: queries of every rank.
  package init(_ unit: UnitRows, shares: [Int], in arena: Arena, _ context: Context) {
    let rank = context.communicator.rank
    let first = shares[..<rank].reduce(0, +)
    let n = unit.rows.n
    precondition(n == shares[rank], "\(n) queries for a share of \(shares[rank]) on rank \(rank)")
    self.unit = unit
    own = first..<first + n
    all = arena.tensor(n: shares.reduce(0, +), c: unit.rows.c)
    gradient = arena.tensor(like: all)
    context.gather(unit.rows, shares: shares, into: all, "queries")
  }

  /// Sums the gradient over ranks.
  /// - q: (n, D), becomes this rank's part, of the queries before they were normalised.
  func backward(into q: Tensor, _ context: Context) {
    context.allReduce(gradient.buffer, on: .statistics, .gatheredGradient)
    context.run(1) { _, _ in q.data.update(from: gradient.data + own.lowerBound * q.c, count: q.count) }
    unit.backward(q, context)
  }
}
