import Randomness
import Shards
import Testing

/// Views with targets, and kinds of views with different channels, through the loader.
@Suite struct PuzzleTests {
  /// One image: its views by kind and index, and their targets.
  struct Seen: Equatable { var sample: Int, views: [[[Float]]], targets: [[Int32]] }

  /// One epoch of `count` images on some ranks, in order of the samples.
  static func load(
    _ recipes: [ViewRecipe], count: Int, ranks: Int = 1, threads: Int = 2
  ) throws -> [Seen] {
    let order = Order(count: count, batch: count / 2, seed: 1)
    var all: [Seen] = []
    for rank in 0..<ranks {
      let loader = try Loader(
        MemorySource(count: count), order: order, views: recipes, rank: rank, ranks: ranks, seed: 5, threads: threads,
        ahead: 2, from: 0, until: 2)
      for _ in 0..<2 {
        let batch = try loader.next()
        for (i, sample) in batch.samples.enumerated() {
          all.append(
            Seen(
              sample: sample,
              views: batch.groups.map { group in
                (0..<group.recipe.count).map { view in
                  Array(
                    UnsafeBufferPointer(
                      start: group.pixels + (view * batch.count + i) * group.length, count: group.length))
                }
              },
              targets: batch.groups.map { group in
                guard let targets = group.targets else { return [] }
                return (0..<group.recipe.count).map { targets[$0 * batch.count + i] }
              }))
        }
        loader.release(batch)
      }
    }
    return all.sorted { $0.sample < $1.sample }
  }

  /// Reference rotation: the right side becomes the top.
  static func turned(_ view: [Float], size: Int, quarters: Int) -> [Float] {
    (0..<quarters).reduce(view) { view, _ in
      let channels = view.count / size / size
      return (0..<size * size).flatMap { place in
        let from = (place % size) * size + size - 1 - place / size
        return view[from * channels..<(from + 1) * channels]
      }
    }
  }

  @Test(arguments: [1, 2, 5, 8]) func fourQuarterTurns(size: Int) throws {
    let recipe = ViewRecipe(
      count: 4, size: size, same: ["crop", "flip"],
      operations: [Crop(scale: Bounds(0.3, 1)), Flip(), Rotate.each, Normalise.dataset])
    #expect(recipe.puzzle?.answers == 4)
    let seen = try Self.load([recipe], count: 20)
    for image in seen {
      #expect(image.targets == [[0, 1, 2, 3]])
      for (i, view) in image.views[0].enumerated() {
        let isTurned = view == Self.turned(image.views[0][0], size: size, quarters: i)
        #expect(isTurned, "sample \(image.sample), view \(i)")
      }
    }
  }

  /// Control: without `same` each view is a different crop.
  @Test func drawsAreSharedWhereTheRecipeSaysSo() throws {
    func views(_ same: [String]) throws -> [[Float]] {
      let recipe = ViewRecipe(count: 2, size: 8, same: same, operations: [Crop(scale: Bounds(0.3, 0.5)), Flip()])
      return try Self.load([recipe], count: 20)[3].views[0]
    }
    let apart = try views([])
    let shared = try views(["crop", "flip"])
    #expect(apart[0] != apart[1] && shared[0] == shared[1])
    #expect(apart[0] == shared[0])
  }

  @Test func drawnTurnsAreTold() throws {
    let seen = try Self.load(
      [ViewRecipe(count: 2, size: 6, same: ["crop"], operations: [Crop(), Rotate.random])], count: 60)
    for image in seen {
      let target = image.targets[0]
      let apart = Int(target[1] - target[0] + 4) % 4
      let isTurned = image.views[0][1] == Self.turned(image.views[0][0], size: 6, quarters: apart)
      #expect(isTurned)
    }
    #expect(Set(seen.flatMap(\.targets).flatMap { $0 }) == [0, 1, 2, 3])
  }

  /// A puzzle of 2 × 2 tiles has the same tiles as an unshuffled view, in the order of its target.
  @Test func aJigsawOfFourTiles() throws {
    let recipes = [24, 0].map { orders in
      ViewRecipe(count: 4, size: 5, operations: [Tiles(grid: 2, jitter: 0, orders: orders)])
    }
    #expect(recipes[0].puzzle?.answers == 24 && recipes[1].puzzle == nil)
    let puzzles = try Self.load([recipes[0]], count: 400)
    let plain = try Self.load([recipes[1]], count: 400)
    var orders: [Int32: [Int]] = [:]
    for (image, rows) in zip(puzzles, plain) {
      let target = image.targets[0][0]
      #expect(image.targets == [[target, target, target, target]] && rows.targets == [[]])
      let order = image.views[0].map { tile in rows.views[0].firstIndex(of: tile) ?? -1 }
      #expect(orders[target, default: order] == order, "sample \(image.sample)")
      orders[target] = order
    }
    #expect(orders.count == 24 && Set(orders.values).count == 24)
    #expect(orders.values.allSatisfy { $0.sorted() == [0, 1, 2, 3] })
  }

  /// Tiles lie inside their cells, and their places vary.
  @Test func tilesLieInTheirCells() {
    let tiles = Tiles(grid: 3, jitter: 0.25)
    var places: Set<Double> = []
    for sample in 0..<50 {
      for index in 0..<9 {
        let key = ViewKey(seed: 1, epoch: 0, step: 0, sample: sample, view: 4 + index, index: index, count: 9)
        let frame = tiles.frame(width: 300, height: 240, size: 64, key)
        let left = Double(index % 3) * 80
        #expect(frame.width == 60 && frame.height == 60, "the part is the largest square, 240 × 240")
        #expect(frame.x >= 30 + left && frame.x + frame.width <= 30 + left + 80)
        #expect(frame.clip.x >= 0 && frame.clip.x + frame.clip.width <= 300)
        #expect(Double(frame.clip.x) <= frame.x && Double(frame.clip.x + frame.clip.width) >= frame.x + frame.width)
        places.insert(frame.x - left)
      }
    }
    #expect(places.count > 400)
  }

  /// Kinds of one, two and three channels in one recipe.
  @Test func channelsDifferByKind() throws {
    let normalise = Normalise.explicit(mean: [0.5], deviation: [0.25])
    let seen = try Self.load(
      [
        ViewRecipe(size: 7, operations: [Normalise.none]),
        ViewRecipe(size: 7, operations: [Channels.one(1), normalise]),
        ViewRecipe(count: 2, size: 5, operations: [Channels.colour]),
        ViewRecipe(size: 7, operations: [Channels.one(1), Normalise.dataset]),
      ], count: 20)
    for image in seen {
      #expect(image.views.map { $0[0].count } == [7 * 7 * 3, 7 * 7, 5 * 5 * 2, 7 * 7])
      let green = stride(from: 1, to: 7 * 7 * 3, by: 3).map { image.views[0][0][$0] }
      #expect(image.views[1][0] == green.map { ($0 - 0.5) * 4 })
      #expect(image.views[3][0] == green.map { ($0 - Float(0.4)) * Float(1 / 0.2) })
      #expect(image.views[2][0] == image.views[2][1])
    }
  }

  @Test(arguments: [2, 3]) func sameOnAnyNumberOfRanks(ranks: Int) throws {
    let recipes = [
      ViewRecipe(count: 4, size: 6, operations: [Tiles(grid: 2, jitter: 0.2, orders: 8), Flip()]),
      ViewRecipe(size: 4, operations: [Crop(), Rotate.random, Channels.lightness]),
    ]
    let one = try Self.load(recipes, count: 40, threads: 1)
    let many = try Self.load(recipes, count: 40, ranks: ranks, threads: 3)
    let isSame = one == many
    #expect(isSame)
  }
}
