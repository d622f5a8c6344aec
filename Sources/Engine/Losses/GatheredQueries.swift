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
  private let norms: UnsafeMutablePointer<Float>

  /// - Parameters:
  ///   - q: (n, D) queries of this rank, not normalised.
  ///   - shares: queries of every rank.
  ///   - embeddings: gets the normalised queries of this rank where given, for health figures.
  package init(
    _ q: Tensor, shares: [Int], in arena: Arena, _ context: Context,
    keeping embeddings: UnsafeMutablePointer<[Float]>? = nil
  ) {
    let rank = context.communicator.rank
    let first = shares[..<rank].reduce(0, +)
    precondition(q.n == shares[rank], "\(q.n) queries for a share of \(shares[rank]) on rank \(rank)")
    own = first..<first + q.n
    all = arena.tensor(n: shares.reduce(0, +), c: q.c)
    gradient = arena.tensor(like: all)
    norms = arena.array(of: Float.self, count: max(1, q.n)).baseAddress!
    let all = all
    let norms = norms
    context.scratch { arena in
      let unit = arena.tensor(like: q)
      L2Normalise.forward(q, into: unit, norms: norms, context)
      if let embeddings, !context.isDry { embeddings.pointee.replace(with: unit) }
      context.gather(unit, shares: shares, into: all, "queries")
    }
  }

  /// Sums the gradient over ranks.
  /// - q: (n, D), becomes this rank's part, of the queries before they were normalised.
  func backward(into q: Tensor, _ context: Context) {
    context.allReduce(gradient.buffer, on: .statistics, "gradient of gathered embeddings")
    context.run(1) { _, _ in q.data.update(from: gradient.data + own.lowerBound * q.c, count: q.count) }
    L2Normalise.backward(q, unit: all.images(own), norms: norms, context)
  }
}
