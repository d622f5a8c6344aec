import CSystem

/// The transforms of patches, tiles and weights, for any scheme.
enum Winograd {
  /// Outputs of a tile in one direction.
  static let tile = 4
  /// Transformed weights in one direction, and in both.
  static let weights = 6, allWeights = 36
  /// Values that a transform keeps between lines and columns, at most.
  static let work = 81

  /// v[i·outputs + j] ← (T d Tᵀ)ij for all channels of a patch. `rows` are its lines, of which `columns` lie in the
  /// map; `ahead` are the lines of a later patch, to prefetch; `step` is the floats from one product of `v` to the
  /// next.
  @inline(__always)
  static func gather<S: WinogradScheme, T: LineTransform>(
    _: S.Type, _: T.Type, tile: (height: Int, width: Int), _ rows: UnsafePointer<UnsafePointer<Float>>,
    ahead: UnsafePointer<UnsafePointer<Float>>, columns: Range<Int>, channels: Int,
    into v: UnsafeMutablePointer<Float>, step: Int, _ work: UnsafeMutablePointer<Lanes>
  ) {
    if columns.count < T.inputs { for i in 0..<T.outputs &* T.inputs { work[i] = .zero } }
    var channel = 0
    while channel < channels {
      for j in columns {
        let at = j &* channels &+ channel
        T.apply(
          tile.height,
          {
            csystem_prefetch(ahead[$0] + at)
            return load(rows[$0] + at)
          }, { work[$0 &* T.inputs &+ j] = $1 })
      }
      for i in 0..<T.outputs where S.uses(i, tile: tile.height) {
        let row = work + i &* T.inputs
        let to = v + (i &* T.outputs &* step &+ channel)
        T.apply(tile.width, { row[$0] }, { store($1, to + $0 &* step) })
      }
      channel &+= Lanes.scalarCount
    }
  }

  /// y ← S m Sᵀ for all channels of a tile: `height` lines of `line` floats and `width` columns lie in the map.
  /// - finish: makes what is stored of a value, from its place after y and its channel.
  @inline(__always)
  static func scatter<S: WinogradScheme, T: LineTransform>(
    _: S.Type, _: T.Type, tile: (height: Int, width: Int), _ m: UnsafePointer<Float>, step: Int, channels: Int,
    into y: UnsafeMutablePointer<Float>, line: Int,
    height: Int, width: Int, _ work: UnsafeMutablePointer<Lanes>,
    _ finish: (_ value: Lanes, _ place: Int, _ channel: Int) -> Lanes
  ) {
    var channel = 0
    while channel < channels {
      for j in 0..<T.inputs where S.uses(j, tile: tile.width) {
        let from = m + (j &* step &+ channel)
        T.apply(tile.height, { load(from + $0 &* T.inputs &* step) }, { work[$0 &* T.inputs &+ j] = $1 })
      }
      for i in 0..<height {
        let row = work + i &* T.inputs
        let first = i &* line &+ channel
        T.apply(
          tile.width, { row[$0] },
          { j, value in
            guard j < width else { return }
            let at = first &+ j &* channels
            store(finish(value, at, channel), y + at)
          })
      }
      channel &+= Lanes.scalarCount
    }
  }

  /// u[weight] ← K g Kᵀ for a register of neighbouring filters of a channel; the taps of g are `tap` floats apart.
  @inline(__always)
  static func transformWeight<T: LineTransform>(
    _: T.Type, _ w: UnsafePointer<Float>, tap: Int, into u: UnsafeMutablePointer<Float>, step: Int,
    _ work: UnsafeMutablePointer<Lanes>
  ) {
    for s in 0..<3 {
      let from = w + s &* tap
      T.apply(tile, { load(from + 3 &* $0 &* tap) }, { work[$0 &* 3 &+ s] = $1 })
    }
    for i in 0..<weights {
      let row = work + 3 &* i
      let to = u + i &* weights &* step
      T.apply(tile, { row[$0] }, { store($1, to + $0 &* step) })
    }
  }

  /// dw[tap][i] += Kᵀ (Σ du) K for the elements i in `range`. Taps of dw are `count` floats apart, matrices of du
  /// `step`; Σ is over `sums` partial sums.
  static func addWeightGradient<T: LineTransform>(
    _: T.Type, _ du: UnsafePointer<Float>, sums: Int, step: Int, _ range: Range<Int>, count: Int,
    to dw: UnsafeMutablePointer<Float>, _ work: UnsafeMutablePointer<Lanes>
  ) {
    var i = range.lowerBound
    while i < range.upperBound {
      for j in 0..<weights {
        let from = du + (j &* step &+ i)
        T.apply(
          tile,
          {
            let point = from + $0 &* weights &* step
            var sum = load(point)
            for i in 1..<sums { sum += load(point + i &* allWeights &* step) }
            return sum
          }, { work[$0 &* weights &+ j] = $1 })
      }
      for r in 0..<3 {
        let row = work + r &* weights
        let to = dw + (3 &* r &* count &+ i)
        T.apply(tile, { row[$0] }, { store($1 + load(to + $0 &* count), to + $0 &* count) })
      }
      i &+= Lanes.scalarCount
    }
  }

  @inline(__always)
  private static func load(_ from: UnsafePointer<Float>) -> Lanes {
    UnsafeRawPointer(from).loadUnaligned(as: Lanes.self)
  }

  @inline(__always)
  private static func store(_ value: Lanes, _ to: UnsafeMutablePointer<Float>) {
    UnsafeMutableRawPointer(to).storeBytes(of: value, as: Lanes.self)
  }
}
