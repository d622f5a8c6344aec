/// (columns, rows) ← (rows, columns)ᵀ, whose rows are `ld` floats apart: squares of four by four in registers.
func transpose(_ from: UnsafePointer<Float>, ld: Int, _ rows: Int, _ columns: Int, into to: UnsafeMutablePointer<Float>)
{
  let wholeRows = rows & ~3
  let wholeColumns = columns & ~3
  for left in stride(from: 0, to: wholeColumns, by: 4) {
    for top in stride(from: 0, to: wholeRows, by: 4) {
      transposeSquare(from + (top &* ld &+ left), ld: ld, into: to + (left &* rows &+ top), ld: rows)
    }
    for i in wholeRows..<rows { for j in left..<left + 4 { to[j &* rows &+ i] = from[i &* ld &+ j] } }
  }
  for j in wholeColumns..<columns { for i in 0..<rows { to[j &* rows &+ i] = from[i &* ld &+ j] } }
}

@inline(__always)
private func transposeSquare(
  _ from: UnsafePointer<Float>, ld: Int, into to: UnsafeMutablePointer<Float>, ld toLd: Int
) {
  func row(_ i: Int) -> SIMD4<Float> { UnsafeRawPointer(from + i &* ld).loadUnaligned(as: SIMD4<Float>.self) }
  func store(_ value: SIMD4<Float>, _ i: Int) {
    UnsafeMutableRawPointer(to + i &* toLd).storeBytes(of: value, as: SIMD4<Float>.self)
  }
  func woven(_ even: SIMD2<Float>, _ odd: SIMD2<Float>) -> SIMD4<Float> {
    SIMD4(even.x, odd.x, even.y, odd.y)
  }
  let (a, b, c, d) = (row(0), row(1), row(2), row(3))
  let (lowAB, lowCD) = (woven(a.lowHalf, b.lowHalf), woven(c.lowHalf, d.lowHalf))
  let (highAB, highCD) = (woven(a.highHalf, b.highHalf), woven(c.highHalf, d.highHalf))
  store(SIMD4(lowHalf: lowAB.lowHalf, highHalf: lowCD.lowHalf), 0)
  store(SIMD4(lowHalf: lowAB.highHalf, highHalf: lowCD.highHalf), 1)
  store(SIMD4(lowHalf: highAB.lowHalf, highHalf: highCD.lowHalf), 2)
  store(SIMD4(lowHalf: highAB.highHalf, highHalf: highCD.highHalf), 3)
}
