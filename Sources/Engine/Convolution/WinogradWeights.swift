import CSystem

/// Transforms a weight, panel by panel. U takes four times the weight's memory, so it is recomputed for each use:
/// keeping it would double the memory of a small batch's step and save a hundredth of its time.
struct WinogradWeightMaker {
  private let context: Context
  private let weight: UnsafePointer<Float>, c: Int, k: Int, turned: Bool
  private let vectors: WinogradVectors
  /// The part of the turned weight that makes a panel, for each thread.
  private let parts: UnsafeMutablePointer<Float>
  private static let part = 9 * Panels.depth * Panels.width

  /// - turned: whether U leads from filters to channels, with the last tap first.
  init(_ context: Context, _ arena: Arena, _ weight: UnsafePointer<Float>, _ c: Int, _ k: Int, turned: Bool) {
    self.context = context
    self.weight = weight
    self.c = c
    self.k = k
    self.turned = turned
    vectors = WinogradVectors(context, arena)
    parts = arena.array(of: Float.self, count: turned ? context.team.count * Self.part : 0).baseAddress!
  }

  func make<T: LineTransform>(_: T.Type, _ arena: Arena) -> WinogradWeights {
    let u = WinogradWeights(arena, c, k)
    let across = pieces(k, of: Panels.width)
    context.run(pieces(c, of: Panels.depth) * across) { index, thread in
      let rows = piece(index / across, of: Panels.depth, in: 0..<c)
      let column = index % across * Panels.width
      let panel = u[0].data + u[0].place(rows.lowerBound, column)
      makePanel(T.self, rows, column, into: panel, step: u.step, thread)
    }
    return u
  }

  /// Makes the panel of some rows from a column on, of all 36 matrices, which are `step` floats apart.
  func makePanel<T: LineTransform>(
    _: T.Type, _ rows: Range<Int>, _ column: Int, into u: UnsafeMutablePointer<Float>, step: Int, _ thread: Int
  ) {
    let width = min(Panels.width, k &- column)
    var from = weight + (rows.lowerBound &* k &+ column)
    var line = k
    var tap = c &* k
    if turned {
      let part = parts + thread &* Self.part
      line = width
      tap = rows.count &* width
      for i in 0..<9 {
        transpose(
          weight + ((8 &- i) &* c &* k &+ column &* c &+ rows.lowerBound), ld: c, width, rows.count,
          into: part + i &* tap)
      }
      from = UnsafePointer(part)
    }
    for row in 0..<rows.count {
      let from = from + row &* line
      // The hardware does not prefetch rows that are far apart.
      if !turned { for i in 0..<9 { csystem_prefetch(from + (i &* tap &+ 4 &* line)) } }
      var i = 0
      while i < width {
        Winograd.transformWeight(
          T.self, from + i, tap: tap, into: u + (row &* Panels.width &+ i), step: step, vectors[thread])
        i &+= Lanes.scalarCount
      }
    }
  }
}

/// The 36 matrices U (C, K).
struct WinogradWeights {
  let step: Int
  private let first: Panels

  init(_ arena: Arena, _ c: Int, _ k: Int) {
    step = Winograd.step(Panels.floats(c, k))
    first = Panels(arena.array(of: Float.self, count: Winograd.allWeights * step).baseAddress!, rows: c, columns: k)
  }

  subscript(_ weight: Int) -> Panels { Panels(first.data + weight * step, rows: first.rows, columns: first.columns) }
}

/// One panel of each of the 36 matrices for every thread.
struct WinogradPanels {
  let step = Winograd.step(Panels.depth * Panels.width)
  private let first: UnsafeMutablePointer<Float>

  /// Nil where it would take more memory than 36 matrices of so many floats.
  init?(_ context: Context, _ arena: Arena, orNilAbove floats: Int) {
    if context.team.count * step > floats { return nil }
    first = arena.array(of: Float.self, count: context.team.count * Winograd.allWeights * step).baseAddress!
  }

  subscript(_ thread: Int) -> UnsafeMutablePointer<Float> { first + thread * Winograd.allWeights * step }
}

/// The values that a transform keeps between lines and columns, for each thread.
struct WinogradVectors {
  private let first: UnsafeMutablePointer<Lanes>

  init(_ context: Context, _ arena: Arena) {
    first = arena.array(of: Lanes.self, count: context.team.count * (Winograd.work + 1)).baseAddress!
  }

  subscript(_ thread: Int) -> UnsafeMutablePointer<Lanes> { first + thread * (Winograd.work + 1) }
}

extension Winograd {
  /// Floats from one product's matrix to the next: a cache line more than the matrix. A transform writes to all
  /// matrices in turn; at a multiple of 4096 bytes they would compete for one set of the L1 cache.
  static func step(_ floats: Int) -> Int { floats + 16 }
}
