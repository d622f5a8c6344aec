import Foundation

/// Eigenvalues of a symmetric matrix, in no order: Householder's reduction to tridiagonal form, then QL with implicit
/// shifts (EISPACK's tred1 and tql1). About 4/3 n³ multiplications.
/// - Parameter matrix: (n, n); the lower triangle is read.
package func symmetricEigenvalues(_ matrix: [Double], _ n: Int) -> [Double] {
  precondition(matrix.count == n * n, "\(matrix.count) numbers for a matrix of \(n) rows")
  var a = matrix
  var (diagonal, beside) = a.withUnsafeMutableBufferPointer { tridiagonalise($0.baseAddress!, n) }
  for first in 0..<n {
    for _ in 0..<60 {
      // The block that begins here ends where an element beside the diagonal is negligible.
      let last =
        (first..<n - 1).first {
          abs(beside[$0]) <= .ulpOfOne * (abs(diagonal[$0]) + abs(diagonal[$0 + 1]))
        } ?? n - 1
      if last == first { break }
      chase(&diagonal, &beside, first, last)
    }
  }
  return diagonal
}

/// Reflections from the last row upwards; `beside[i]` couples i and i + 1.
private func tridiagonalise(_ a: UnsafeMutablePointer<Double>, _ n: Int) -> ([Double], [Double]) {
  var diagonal = [Double](repeating: 0, count: n)
  var beside = diagonal
  var p = diagonal
  for i in stride(from: n - 1, to: 0, by: -1) {
    let row = a + i * n  // its first i elements become the reflection's vector
    let scale = (0..<i).reduce(0) { max($0, abs(row[$1])) }
    if i == 1 || scale == 0 {
      beside[i - 1] = row[i - 1]
      continue
    }
    var h = 0.0
    for k in 0..<i {
      row[k] /= scale
      h += row[k] * row[k]
    }
    let pivot = row[i - 1]
    let length = pivot >= 0 ? -h.squareRoot() : h.squareRoot()
    beside[i - 1] = scale * length
    h -= pivot * length
    row[i - 1] = pivot - length
    for j in 0..<i { p[j] = 0 }
    for j in 0..<i {  // p = A u, from the lower triangle
      let line = a + j * n
      var sum = line[j] * row[j]
      for k in 0..<j {
        sum += line[k] * row[k]
        p[k] += line[k] * row[j]
      }
      p[j] += sum
    }
    var f = 0.0
    for j in 0..<i {
      p[j] /= h
      f += p[j] * row[j]
    }
    for j in 0..<i { p[j] -= f / (2 * h) * row[j] }
    for j in 0..<i {
      let line = a + j * n
      for k in 0...j { line[k] -= row[j] * p[k] + p[j] * row[k] }
    }
  }
  for i in 0..<n { diagonal[i] = a[i * n + i] }
  return (diagonal, beside)
}

/// One QL step with Wilkinson's shift on the block first...last.
private func chase(_ d: inout [Double], _ e: inout [Double], _ first: Int, _ last: Int) {
  let half = (d[first + 1] - d[first]) / (2 * e[first])
  let root = (half * half + 1).squareRoot()
  var g = d[last] - d[first] + e[first] / (half + (half >= 0 ? root : -root))
  var sine = 1.0
  var cosine = 1.0
  var shift = 0.0
  for i in stride(from: last - 1, through: first, by: -1) {
    let f = sine * e[i]
    let b = cosine * e[i]
    let length = hypot(f, g)
    e[i + 1] = length
    if length == 0 {  // The block has split.
      d[i + 1] -= shift
      e[last] = 0
      return
    }
    sine = f / length
    cosine = g / length
    g = d[i + 1] - shift
    let r = (d[i] - g) * sine + 2 * cosine * b
    shift = sine * r
    d[i + 1] = g + shift
    g = cosine * r - b
  }
  d[first] -= shift
  e[first] = g
  e[last] = 0
}
