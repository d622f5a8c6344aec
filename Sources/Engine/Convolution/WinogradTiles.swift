/// The tiles of all images. Where a map's height or width is no multiple of four, the tiles of its last line or column
/// are short and take part in fewer products. Tiles are numbered so that a product's tiles follow one another: first
/// the last lines, then all others, then the last columns without their corners, then the corners.
struct WinogradTiles {
  private let down: Int, across: Int
  /// Tiles of four outputs, down and across.
  private let fullDown: Int, fullAcross: Int
  /// Outputs of the last tile of a column and of a line.
  private let last: (height: Int, width: Int)
  /// The first number of the other tiles, of the last columns, and of the corners.
  private let others: Int, columns: Int, corners: Int
  let count: Int

  init(images: Int, height: Int, width: Int) {
    // The only tile of a small map counts as a full one.
    func last(_ extent: Int) -> Int {
      let rest = extent % Winograd.tile
      return rest == 0 || extent < Winograd.tile ? Winograd.tile : max(2, rest)
    }
    down = pieces(height, of: Winograd.tile)
    across = pieces(width, of: Winograd.tile)
    self.last = (last(height), last(width))
    fullDown = self.last.height < Winograd.tile ? down - 1 : down
    fullAcross = self.last.width < Winograd.tile ? across - 1 : across
    others = images * (down - fullDown) * fullAcross
    columns = others + images * fullDown * fullAcross
    corners = columns + images * fullDown * (across - fullAcross)
    count = images * down * across
  }

  @inline(__always)
  func place(of tile: Int) -> (image: Int, line: Int, column: Int) {
    if tile < others { return (tile / fullAcross, down - 1, tile % fullAcross) }
    if tile < columns {
      let line = (tile - others) / fullAcross
      return (line / fullDown, line % fullDown, (tile - others) % fullAcross)
    }
    if tile < corners { return ((tile - columns) / fullDown, (tile - columns) % fullDown, across - 1) }
    return (tile - corners, down - 1, across - 1)
  }

  /// Outputs of a tile, for the transforms.
  @inline(__always)
  func extent(_ line: Int, _ column: Int) -> (height: Int, width: Int) {
    (line == down - 1 ? last.height : Winograd.tile, column == across - 1 ? last.width : Winograd.tile)
  }

  /// The tiles that take part in a product.
  func takingPart<S: WinogradScheme>(_: S.Type, _ i: Int, _ j: Int) -> Range<Int> {
    let inLast = (line: S.uses(i, tile: last.height), column: S.uses(j, tile: last.width))
    return (inLast.line ? 0 : others)..<(inLast.column ? (inLast.line ? count : corners) : columns)
  }

  /// Products of all tiles.
  func products<S: WinogradScheme>(_: S.Type) -> Int {
    var sum = 0
    for i in 0..<S.Input.outputs { for j in 0..<S.Input.outputs { sum += takingPart(S.self, i, j).count } }
    return sum
  }
}
