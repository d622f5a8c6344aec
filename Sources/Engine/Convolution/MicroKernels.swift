/// The innermost product of every convolution, as a function: one implementation is chosen when the program starts.
///
/// An implementation is a file with a value of this type and a row in `MicroKernels.all`.
package struct MicroKernels: Sendable {
  /// C ← A · B (+ C), then the epilogue, whose first output is C's first element. Prefetches a portion of what the
  /// caller needs next with every six rows of every panel.
  package typealias Product =
    @Sendable (
      _ size: ProductSize, _ a: LeftFactor, _ b: RightFactor, _ c: MutableRows, _ epilogue: Epilogue?,
      _ next: inout Prefetch
    ) -> Void

  /// As `APUS_KERNELS` names it.
  package let name: String
  /// Whether this processor can run it.
  package let isSupported: @Sendable () -> Bool
  /// Rows of C and panels of B that are computed at a time: what a caller that packs should pack together.
  package let rows: Int, panels: Int
  package let multiply: Product

  /// Every implementation, the fastest first.
  package static let all = [avx512, simd, plain]
  /// The fastest that this processor can run.
  package static let best = all.first { $0.isSupported() }!

  /// The implementation in use. `choose` sets it once, before other threads compute.
  nonisolated(unsafe) package private(set) static var current = best

  /// Chooses by name; nil chooses the fastest.
  /// - Returns: false where there is no such implementation, or this processor cannot run it.
  package static func choose(_ name: String?) -> Bool {
    guard let found = name.map({ name in all.first { $0.name == name } }) ?? best, found.isSupported() else {
      return false
    }
    current = found
    return true
  }
}

/// Sizes of a product, and whether it is added to C or overwrites it.
package struct ProductSize {
  /// Rows of C.
  package let m: Int
  /// Columns of C, whole panels.
  package let n: Int
  /// Products in each element of C.
  package let k: Int
  package let accumulate: Bool

  @inline(__always)
  package init(m: Int, n: Int, k: Int, accumulate: Bool) {
    self.m = m
    self.n = n
    self.k = k
    self.accumulate = accumulate
  }
}

/// A, with A(i, p) = first[i·rowStep + p·columnStep]; one of the steps is 1.
package struct LeftFactor {
  package let first: UnsafePointer<Float>
  package let rowStep: Int, columnStep: Int

  /// A in row order.
  @inline(__always)
  package init(rows: Rows) {
    first = rows.first
    rowStep = rows.step
    columnStep = 1
  }

  /// The transpose of a matrix in row order.
  @inline(__always)
  package init(columns: Rows) {
    first = columns.first
    rowStep = 1
    columnStep = columns.step
  }
}

/// B, which is read `Panels.width` columns at a time.
package struct RightFactor {
  package let first: UnsafePointer<Float>
  /// Floats from one row to the next, and from one panel to the next.
  package let step: Int, panelStep: Int

  /// B in row order, for an A in column order.
  @inline(__always)
  package init(rows: Rows) {
    first = rows.first
    step = rows.step
    panelStep = Panels.width
  }

  /// Panels of `depth` rows that follow one another.
  @inline(__always)
  package init(panels: UnsafePointer<Float>, depth: Int) {
    first = panels
    step = Panels.width
    panelStep = depth &* Panels.width
  }
}

/// A matrix in row order: its first element, and the floats from one row to the next.
package struct Rows {
  package let first: UnsafePointer<Float>
  package let step: Int

  @inline(__always)
  package init(_ first: UnsafePointer<Float>, step: Int) {
    self.first = first
    self.step = step
  }
}

/// A matrix in row order that is written.
package struct MutableRows {
  package let first: UnsafeMutablePointer<Float>
  package let step: Int

  @inline(__always)
  package init(_ first: UnsafeMutablePointer<Float>, step: Int) {
    self.first = first
    self.step = step
  }
}
