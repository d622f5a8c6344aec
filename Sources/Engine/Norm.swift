/// ‖x‖, accumulated in Double.
package func norm(_ x: UnsafePointer<Float>, _ count: Int) -> Double {
  var sum = SIMD8<Double>()
  var i = 0
  while i &+ 8 <= count {
    let value = SIMD8<Double>(UnsafeRawPointer(x + i).loadUnaligned(as: SIMD8<Float>.self))
    sum.addProduct(value, value)
    i &+= 8
  }
  var total = sum.sum()
  while i < count {
    total += Double(x[i]) * Double(x[i])
    i &+= 1
  }
  return total.squareRoot()
}
