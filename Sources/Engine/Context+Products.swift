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
}
