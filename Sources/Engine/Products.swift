import Ranks

/// Products of feature matrices, computed in blocks of a fixed number of rows.
extension Context {
  private static let rowsPerBlock = 64

  /// Runs `body(row, count)` over blocks of rows.
  func blocks(of rows: Int, _ body: (_ row: Int, _ count: Int) -> Void) {
    run((rows + Self.rowsPerBlock - 1) / Self.rowsPerBlock) { block, _ in
      let row = block * Self.rowsPerBlock
      body(row, min(Self.rowsPerBlock, rows - row))
    }
  }

  /// c = alpha · a · bᵀ; a (M, D), b (N, D), c (M, N), or wider: then its columns from `column` on.
  package func product(_ a: Tensor, _ b: Tensor, into c: Tensor, column: Int = 0, alpha: Float = 1) {
    precondition(a.c == b.c && c.n == a.n && c.c >= column + b.n, "product \(a.shape) · \(b.shape)ᵀ into \(c.shape)")
    blocks(of: a.n) { row, count in
      sgemm(
        count, b.n, a.c, a.data + row * a.c, lda: a.c, transposed: false, b.data, ldb: b.c, transposed: true,
        into: c.data + row * c.c + column, ldc: c.c, alpha: alpha)
    }
  }

  /// c = alpha · a · b, or added to c; a (M, N), or wider: then its columns from `column` on; b (N, D), c (M, D).
  package func product(
    _ a: Tensor, column: Int = 0, plain b: Tensor, into c: Tensor, accumulate: Bool = false, alpha: Float = 1
  ) {
    precondition(a.c >= column + b.n && c.n == a.n && c.c == b.c, "product \(a.shape) · \(b.shape) into \(c.shape)")
    blocks(of: a.n) { row, count in
      sgemm(
        count, b.c, b.n, a.data + row * a.c + column, lda: a.c, b.data, ldb: b.c, into: c.data + row * c.c, ldc: c.c,
        alpha: alpha, beta: accumulate ? 1 : 0)
    }
  }

  /// c = alpha · aᵀ · b; a (N, M), or wider: then its first M columns; b (N, D), c (M, D).
  package func product(transposed a: Tensor, _ b: Tensor, into c: Tensor, alpha: Float = 1) {
    precondition(a.n == b.n && a.c >= c.n && c.c == b.c, "product \(a.shape)ᵀ · \(b.shape) into \(c.shape)")
    blocks(of: c.n) { row, count in
      sgemm(
        count, b.c, a.n, a.data + row, lda: a.c, transposed: true, b.data, ldb: b.c, into: c.data + row * c.c, ldc: c.c,
        alpha: alpha)
    }
  }

  /// Gathers every rank's rows in rank order.
  /// - Parameters:
  ///   - shares: images of every rank.
  ///   - views: rows of each image.
  package func gather(_ local: Tensor, shares: [Int], views: Int = 1, into all: Tensor, _ purpose: CollectivePurpose) {
    if isDry { return }
    part(.communication) {
      communicator.allGather(local.data, rows: shares, width: views * local.c, into: all.data, purpose)
    }
  }

  /// Gathers every rank's rows in the order of the global batch, view after view, and keeps them beyond the step.
  /// - local: (V·n, D) of this rank, view after view.
  package func collect(
    _ local: Tensor, shares: [Int], views: Int = 1, into kept: inout [Float], _ purpose: CollectivePurpose
  ) {
    let n = local.n / views
    let batch = shares.reduce(0, +)
    scratch { arena in
      let all = arena.tensor(n: views * batch, c: local.c)
      for view in 0..<views {
        gather(
          local.images(view * n..<(view + 1) * n), shares: shares, into: all.images(view * batch..<(view + 1) * batch),
          purpose)
      }
      if !isDry { kept.replace(with: all) }
    }
  }
}
