/// The queries of all ranks on every rank, for candidates that are distributed over the ranks. The (B, D) queries are
/// gathered, and the many rows of a bank are not sent.
///
/// Every rank scores all queries against its own candidates. A query's maximum and sums are reduced over ranks, and its
/// gradient is the sum over ranks. So results do not depend on the distribution of the candidates, beyond rounding.
package struct GatheredQueries {
  /// (B, D), normalised, in the order of the global batch.
  package let all: Tensor
  /// The rows of this rank.
  package let own: Range<Int>
  /// (B, D): the gradient of `all`. Each rank writes the contribution of its own candidates.
  let gradient: Tensor
  private let unit: UnitRows

  /// - Parameters:
  ///   - unit: (n, D) queries of this rank, normalised.
  ///   - shares: number of queries on every rank.
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

  /// Sums the gradient over ranks and takes it back through the normalisation.
  /// - q: (n, D), becomes the gradient of this rank's queries before normalisation.
  func backward(into q: Tensor, _ context: Context) {
    context.allReduce(gradient.buffer, on: .statistics, .gatheredGradient)
    context.run(1) { _, _ in q.data.update(from: gradient.data + own.lowerBound * q.c, count: q.count) }
    unit.backward(q, context)
  }
}
