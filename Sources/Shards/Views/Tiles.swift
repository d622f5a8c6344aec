import Randomness

/// Cuts a part of the image into a grid of tiles; each view shows one. In a drawn order they are a jigsaw puzzle, whose
/// target is the number of the order: Noroozi and Favaro 2016, arXiv:1603.09246.
package struct Tiles: Framing, Puzzle {
  package static let name = "tiles"
  /// Tiles in a row, and rows.
  package let grid: Int
  /// Area of the part that is cut up, as a share of the image's.
  package var scale: Bounds
  /// Width over height of that part.
  package var ratio: Bounds
  /// Share of a cell's side that is left out around its tile, which lies anywhere in the cell. 0: tiles touch, so that
  /// their edges give the order away.
  package var jitter: Double
  /// Orders to tell apart, each as unlike the others as can be found; 0: always row by row, without a target.
  package let orders: Int
  package var interpolation: Interpolation
  /// By target and view: the tile that is shown.
  private let order: [[Int]]

  package init(
    grid: Int = 3, scale: Bounds = Bounds(1, 1), ratio: Bounds = Bounds(1, 1), jitter: Double = 0.25, orders: Int = 0,
    interpolation: Interpolation = .bilinear
  ) {
    self.grid = grid
    self.scale = scale
    self.ratio = ratio
    self.jitter = jitter
    self.orders = orders
    self.interpolation = interpolation
    order = Tiles.isSolvable(grid, orders) ? Tiles.orders(orders, of: grid * grid) : []
  }

  private enum CodingKeys: String, CodingKey, CaseIterable { case grid, scale, ratio, jitter, orders, interpolation }

  package init(from decoder: any Swift.Decoder) throws {
    let keys = try decoder.strict(CodingKeys.self, of: "tiles")
    let defaults = Tiles()
    self.init(
      grid: try keys.value(.grid, default: defaults.grid), scale: try keys.value(.scale, default: defaults.scale),
      ratio: try keys.value(.ratio, default: defaults.ratio), jitter: try keys.value(.jitter, default: defaults.jitter),
      orders: try keys.value(.orders, default: defaults.orders),
      interpolation: try keys.value(.interpolation, default: defaults.interpolation))
  }

  package func validate(_ kind: ViewRecipe, channels: Int) throws(RecipeError) -> [String] {
    try require("tiles.grid", Double(grid), in: 2...8)
    try require("tiles.scale", scale.low, in: 1e-6...1)
    try require("tiles.scale", scale.high, in: 1e-6...1)
    try require("tiles.ratio", ratio.low, in: 0.01...100)
    try require("tiles.ratio", ratio.high, in: 0.01...100)
    try require("tiles.jitter", jitter, in: 0...0.9)
    guard Tiles.isSolvable(grid, orders) else {
      throw RecipeError("tiles.orders is \(orders); expected 0, or 2 to \(Tiles.most(grid)) for \(grid * grid) tiles")
    }
    guard kind.count == grid * grid else {
      throw RecipeError("tiles: the view has count \(kind.count), but a grid of \(grid) has \(grid * grid) tiles")
    }
    return []
  }

  package var answers: Int { orders }

  package func target(_ key: ViewKey) -> Int {
    var draws = key.kindDraws(.tiles)
    return orders > 0 ? draws.integer(below: orders) : 0
  }

  package func frame(width: Int, height: Int, size: Int, _ key: ViewKey) -> Frame {
    var shared = key.kindDraws(.crop)
    let part = Crop(scale: scale, ratio: ratio).box(width: width, height: height, &shared)
    let tile = order[target(key)][key.index]
    let cellWidth = Double(part.width) / Double(grid)
    let cellHeight = Double(part.height) / Double(grid)
    var draws = key.draws(.tiles)
    let x = Double(part.x) + cellWidth * (Double(tile % grid) + jitter * draws.uniform())
    let y = Double(part.y) + cellHeight * (Double(tile / grid) + jitter * draws.uniform())
    let w = cellWidth * (1 - jitter)
    let h = cellHeight * (1 - jitter)
    // The pixels that the tile touches.
    let left = Int(x)
    let top = Int(y)
    let right = min(Int((x + w).rounded(.up)), part.x + part.width)
    let bottom = min(Int((y + h).rounded(.up)), part.y + part.height)
    return Frame(
      x: x, y: y, width: w, height: h,
      clip: PixelRect(x: left, y: top, width: max(1, right - left), height: max(1, bottom - top)))
  }

  // MARK: Orders

  /// Orders that are allowed: all that there are, at most 10,000.
  private static func most(_ grid: Int) -> Int { grid <= 2 ? 24 : 10_000 }

  private static func isSolvable(_ grid: Int, _ orders: Int) -> Bool {
    (2...8).contains(grid) && (orders == 0 || (2...most(grid)).contains(orders))
  }

  /// The same orders in every run, row by row first. Each next one is that of 32 drawn orders whose nearest order so
  /// far is the farthest away: distance is how many tiles have another place.
  private static func orders(_ count: Int, of tiles: Int) -> [[Int]] {
    var found = [Array(0..<tiles)]
    var draws = Draws(seed: 0, .tiles, UInt64(tiles))
    while found.count < count {
      var best: (distance: Int, order: [Int]) = (0, [])
      for _ in 0..<32 {
        let order = draws.shuffled(tiles)
        let distance = found.reduce(tiles) { least, other in
          min(least, order.indices.count { order[$0] != other[$0] })
        }
        if distance > best.distance { best = (distance, order) }
      }
      // At distance 0 all 32 were there already.
      if best.distance > 0 { found.append(best.order) }
    }
    return found
  }
}
