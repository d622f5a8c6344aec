extension MicroKernels {
  /// Loops without vector types: what the other implementations are compared with.
  static let plain = MicroKernels(
    name: "plain",
    isSupported: { true },
    rows: 1,
    panels: 1,
    multiply: { size, a, b, c, epilogue, _ in
      for row in 0..<size.m {
        for column in 0..<size.n {
          let from = b.first + (column / Panels.width * b.panelStep + column % Panels.width)
          var sum: Float = 0
          for p in 0..<size.k { sum += a.first[row * a.rowStep + p * a.columnStep] * from[p * b.step] }
          let place = row * c.step + column
          if size.accumulate { sum += c.first[place] }
          c.first[place] = epilogue?.apply(sum, at: place, channel: column) ?? sum
        }
      }
    })
}
