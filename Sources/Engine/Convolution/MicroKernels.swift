/// The innermost products of every convolution, as functions: one implementation is chosen when the program starts.
///
/// An implementation is a file with a value of this type and a row in `MicroKernels.all`. The factors come in three
/// layouts, all with a B of `Panels.width` columns.
package struct MicroKernels: Sendable {
  /// C ← A · B (+ C), or with Aᵀ. Prefetches a portion of what the caller needs next with every six rows.
  package typealias Product =
    @Sendable (
      _ size: ProductSize, _ a: Rows, _ b: Rows, _ c: MutableRows, _ next: inout Prefetch
    ) -> Void

  /// As `APUS_KERNELS` names it.
  package let name: String
  /// Whether this processor can run them.
  package let isSupported: @Sendable () -> Bool
  /// A (m, k) in row order, B (k, width) a panel.
  package let rowsByPanel: Product
  /// Aᵀ of A (k, m) in row order, B (k, width) in row order.
  package let columnsByRows: Product
  /// Floats from one row of A to the next from which on A is packed before `rowsByPanel` would read it: so many rows
  /// at once would compete for the same sets of the L1 cache.
  package let farRows: Int
  /// Aᵀ of A (k, 6), a strip of which m columns count, B (k, width) a panel. Prefetches nothing.
  package let stripByPanel: Product

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

/// Rows and depth of a product, and whether it is added to C or overwrites it.
package struct ProductSize {
  /// Rows of C.
  package let m: Int
  /// Products in each element of C.
  package let k: Int
  package let accumulate: Bool

  @inline(__always)
  package init(m: Int, k: Int, accumulate: Bool) {
    self.m = m
    self.k = k
    self.accumulate = accumulate
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
