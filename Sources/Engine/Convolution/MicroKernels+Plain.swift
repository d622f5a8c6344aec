extension MicroKernels {
  /// Loops without vector types: what the other implementations are compared with.
  static let plain = MicroKernels(
    name: "plain",
    isSupported: { true },
    rowsByPanel: { size, a, b, c, _ in
      multiply(size, c) { row, p, column in a.first[row * a.step + p] * b.first[p * b.step + column] }
    },
    columnsByRows: { size, a, b, c, _ in
      multiply(size, c) { row, p, column in a.first[p * a.step + row] * b.first[p * b.step + column] }
    },
    farRows: .max,
    stripByPanel: { size, a, b, c, _ in
      multiply(size, c) { row, p, column in a.first[p * a.step + row] * b.first[p * b.step + column] }
    })

  /// - Parameter product: A(row, p) · B(p, column).
  @inline(__always)
  private static func multiply(
    _ size: ProductSize, _ c: MutableRows, _ product: (_ row: Int, _ p: Int, _ column: Int) -> Float
  ) {
    for row in 0..<size.m {
      for column in 0..<Panels.width {
        var sum: Float = 0
        for p in 0..<size.k { sum += product(row, p, column) }
        let place = row * c.step + column
        c.first[place] = size.accumulate ? c.first[place] + sum : sum
      }
    }
  }
}
