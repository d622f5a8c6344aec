/// Whether a GEMM whose small factor (k × n of A · B, m × n of Aᵀ · B) is `rows` by `columns` is narrow: `directGEMM` is
/// faster then. Up to 64 × 64 it reaches 95 to 110 GFLOP/s where OpenBLAS reaches 60 (16 × 16) to 97 on the same core.
func isNarrow(_ rows: Int, _ columns: Int) -> Bool { columns % 16 == 0 && rows * columns <= 64 * 64 }

/// C (m, n) ← op(A) · B (+ C) by the faster way.
func gemm(
  _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, lda: Int, transposed: Bool = false,
  _ b: UnsafePointer<Float>, ldb: Int, into c: UnsafeMutablePointer<Float>, ldc: Int, accumulate: Bool = false
) {
  if transposed, isNarrow(m, n) {
    // Both factors are read again for every few rows of C, so a piece of them has to stay in the cache.
    for first in stride(from: 0, to: k, by: 128) {
      directGEMM(
        m, n, min(128, k - first), a + first * lda, 1, lda, b + first * ldb, ldb: ldb, into: c, ldc: ldc,
        accumulate: accumulate || first > 0)
    }
  } else if !transposed, isNarrow(k, n) {
    directGEMM(m, n, k, a, lda, 1, b, ldb: ldb, into: c, ldc: ldc, accumulate: accumulate)
  } else {
    sgemm(m, n, k, a, lda: lda, transposed: transposed, b, ldb: ldb, into: c, ldc: ldc, beta: accumulate ? 1 : 0)
  }
}

/// GEMM that reads its factors where they lie. OpenBLAS packs both into panels first, which for narrow matrices takes as
/// long as the arithmetic; here B's rows are read 16 columns at a time, and stay in the L1 cache because they are few.
///
/// C (m, n) ← A · B (+ C), with A(i, p) = a[i·rowStep + p·columnStep], so A may lie transposed, and B (k, n) by rows.
/// n is a multiple of 16.
private func directGEMM(
  _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, _ rowStep: Int, _ columnStep: Int,
  _ b: UnsafePointer<Float>, ldb: Int, into c: UnsafeMutablePointer<Float>, ldc: Int, accumulate: Bool = false
) {
  var j = 0
  while j < n {
    var i = 0
    while i &+ 4 <= m {
      fourRows(k, a + i &* rowStep, rowStep, columnStep, b + j, ldb, c + (i &* ldc &+ j), ldc, accumulate)
      i &+= 4
    }
    while i < m {
      oneRow(k, a + i &* rowStep, columnStep, b + j, ldb, c + (i &* ldc &+ j), accumulate)
      i &+= 1
    }
    j &+= 16
  }
}

private typealias Lanes = SIMD8<Float>

@inline(__always)
private func load(_ from: UnsafePointer<Float>) -> Lanes { UnsafeRawPointer(from).loadUnaligned(as: Lanes.self) }

@inline(__always)
private func store(_ value: Lanes, _ to: UnsafeMutablePointer<Float>, _ accumulate: Bool) {
  UnsafeMutableRawPointer(to).storeBytes(of: accumulate ? value + load(to) : value, as: Lanes.self)
}

/// 4 × 16 sums in eight registers: as many as two FMA units with four cycles of latency keep busy.
@inline(__always)
private func fourRows(
  _ k: Int, _ a: UnsafePointer<Float>, _ rowStep: Int, _ columnStep: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
  _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ accumulate: Bool
) {
  var (s00, s01, s10, s11) = (Lanes.zero, Lanes.zero, Lanes.zero, Lanes.zero)
  var (s20, s21, s30, s31) = (Lanes.zero, Lanes.zero, Lanes.zero, Lanes.zero)
  var (from, row) = (a, b)
  for _ in 0..<k {
    let b0 = load(row), b1 = load(row + 8)
    let x0 = Lanes(repeating: from[0]), x1 = Lanes(repeating: from[rowStep])
    s00.addProduct(x0, b0)
    s01.addProduct(x0, b1)
    s10.addProduct(x1, b0)
    s11.addProduct(x1, b1)
    let x2 = Lanes(repeating: from[2 &* rowStep]), x3 = Lanes(repeating: from[3 &* rowStep])
    s20.addProduct(x2, b0)
    s21.addProduct(x2, b1)
    s30.addProduct(x3, b0)
    s31.addProduct(x3, b1)
    from += columnStep
    row += ldb
  }
  store(s00, c, accumulate)
  store(s01, c + 8, accumulate)
  store(s10, c + ldc, accumulate)
  store(s11, c + (ldc &+ 8), accumulate)
  store(s20, c + 2 &* ldc, accumulate)
  store(s21, c + (2 &* ldc &+ 8), accumulate)
  store(s30, c + 3 &* ldc, accumulate)
  store(s31, c + (3 &* ldc &+ 8), accumulate)
}

@inline(__always)
private func oneRow(
  _ k: Int, _ a: UnsafePointer<Float>, _ columnStep: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
  _ c: UnsafeMutablePointer<Float>, _ accumulate: Bool
) {
  var (s0, s1) = (Lanes.zero, Lanes.zero)
  var (from, row) = (a, b)
  for _ in 0..<k {
    let x = Lanes(repeating: from[0])
    s0.addProduct(x, load(row))
    s1.addProduct(x, load(row + 8))
    from += columnStep
    row += ldb
  }
  store(s0, c, accumulate)
  store(s1, c + 8, accumulate)
}

/// (columns, rows) ← (rows, columns)ᵀ, for the narrow B that a data gradient wants transposed.
func transpose(_ from: UnsafePointer<Float>, _ rows: Int, _ columns: Int, into to: UnsafeMutablePointer<Float>) {
  for i in 0..<rows { for j in 0..<columns { to[j &* rows &+ i] = from[i &* columns &+ j] } }
}
