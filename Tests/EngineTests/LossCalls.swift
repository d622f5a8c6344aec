import Engine

// Calls of losses with embeddings that are not normalised yet.

extension NTXent {
  func apply(_ z: Tensor, shares: [Int], queue: Tensor? = nil, _ context: Context) -> LossStatistics {
    context.scratch { apply(z, UnitRows(z, in: $0, context), shares: shares, queue: queue, context) }
  }
}

extension InfoNCE {
  func apply(_ q: Tensor, keys: Tensor, queue: Tensor, count: Int, _ context: Context) -> LossStatistics {
    context.scratch { apply(q, UnitRows(q, in: $0, context), keys: keys, queue: queue, count: count, context) }
  }
}

extension BatchInfoNCE {
  func apply(_ q: Tensor, keys: Tensor, shares: [Int], _ context: Context) -> LossStatistics {
    context.scratch { apply(q, UnitRows(q, in: $0, context), keys: keys, shares: shares, context) }
  }
}

extension GatheredQueries {
  init(_ q: Tensor, shares: [Int], in arena: Arena, _ context: Context) {
    self.init(UnitRows(q, in: arena, context), shares: shares, in: arena, context)
  }
}
