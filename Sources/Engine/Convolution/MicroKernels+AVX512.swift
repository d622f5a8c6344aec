import CKernels

extension MicroKernels {
  /// AVX-512 in a build for AVX2, where the processor has it: the same panels, twice as many floats at once, and the
  /// same bits, because every sum is taken in the same order.
  static let avx512 = MicroKernels(
    name: "avx512",
    isSupported: { Panels.width == 16 && ckernels_has_avx512() != 0 },
    rows: 12,
    panels: 2,
    multiply: { size, a, b, c, epilogue, next in
      var column = 0
      var panel = b.first
      while column < size.n {
        let columns = min(2 &* Panels.width, size.n &- column)
        let portions = columns / Panels.width &* 2
        var row = 0
        while row < size.m {
          let rows = min(12, size.m &- row)
          for _ in 0..<portions { next.fetch() }
          let place = row &* c.step &+ column
          var product = ckernels_product(
            m: rows, n: columns, k: size.k, a: a.first + row &* a.rowStep, row_step: a.rowStep,
            column_step: a.columnStep, b: panel, b_step: b.step, panel_step: b.panelStep, c: c.first + place,
            c_step: c.step, accumulate: size.accumulate ? 1 : 0, mean: nil, scale: nil, shift: nil, residual: nil,
            floor: 0)
          if let epilogue {
            product.mean = epilogue.mean + column
            product.scale = epilogue.scale + column
            product.shift = epilogue.shift + column
            product.residual = epilogue.residual.map { $0 + place }
            product.floor = epilogue.floor
          }
          ckernels_multiply_avx512(&product)
          row &+= rows
        }
        column &+= columns
        panel += 2 &* b.panelStep
      }
    })
}
