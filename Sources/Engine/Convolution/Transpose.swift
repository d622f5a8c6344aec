/// (columns, rows) ← (rows, columns)ᵀ, whose rows are `ld` floats apart, in squares that stay in the L1 cache.
func transpose(_ from: UnsafePointer<Float>, ld: Int, _ rows: Int, _ columns: Int, into to: UnsafeMutablePointer<Float>)
{
  let side = 16
  for top in stride(from: 0, to: rows, by: side) {
    for left in stride(from: 0, to: columns, by: side) {
      for j in left..<min(left + side, columns) {
        for i in top..<min(top + side, rows) { to[j &* rows &+ i] = from[i &* ld &+ j] }
      }
    }
  }
}
