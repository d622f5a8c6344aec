import Foundation
import Randomness
import Ranks
import Shards
import Testing

@Suite struct LoaderTests {
  static let recipes = [
    ViewRecipe(
      count: 2, size: 9,
      operations: [
        Crop(scale: Bounds(0.2, 1), interpolation: .bicubic), Flip(),
        Colour(probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1), Grey(),
        Blur(kernel: 3), Normalise.dataset,
      ]),
    ViewRecipe(size: 6, operations: [Crop(), Solarise()]),
  ]

  /// One step: samples, labels and every bit of the views, by image.
  struct Seen: Equatable {
    var samples: [Int] = [], labels: [Int32] = [], views: [[[UInt32]]] = []
  }

  static func load(
    _ source: MemorySource, _ order: Order, rank: Int = 0, ranks: Int = 1, threads: Int = 1, ahead: Int = 2,
    steps: Range<Int>
  ) throws -> (seen: [Seen], bytes: Int) {
    let loader = try Loader(
      source, order: order, views: recipes, rank: rank, ranks: ranks, seed: 5, threads: threads, ahead: ahead,
      from: steps.lowerBound, until: steps.upperBound)
    var all: [Seen] = []
    for step in steps {
      let batch = try loader.next()
      #expect(batch.step == step && batch.epoch == step / order.stepsPerEpoch)
      #expect(batch.globalCount == order.size(ofStep: step))
      #expect(batch.positions == share(of: batch.globalCount, rank: rank, ranks: ranks))
      all.append(
        Seen(
          samples: batch.samples, labels: batch.labels,
          views: batch.samples.indices.map { image in
            batch.groups.map { group in
              let area = group.recipe.size * group.recipe.size * source.channels
              return (0..<group.recipe.count).flatMap { view in
                (0..<area).map { group.pixels[(view * batch.count + image) * area + $0].bitPattern }
              }
            }
          }))
      loader.release(batch)
    }
    return (all, loader.bytesRead)
  }

  /// The shares of all ranks, concatenated.
  static func joined(_ parts: [[Seen]]) -> [Seen] {
    parts[0].indices.map { step in
      parts.reduce(into: Seen()) {
        $0.samples += $1[step].samples
        $0.labels += $1[step].labels
        $0.views += $1[step].views
      }
    }
  }

  /// A simulated run of two epochs on 1, 4 and 64 ranks, for both treatments of the last batch.
  @Test(arguments: LastBatch.allCases) func sameOnAnyNumberOfRanksAndEachByteReadOnce(_ last: LastBatch) throws {
    let order = Order(count: 3000, batch: 128, seed: 1, last: last)
    let steps = 0..<2 * order.stepsPerEpoch
    #expect(order.block > 1)
    var reference: [Seen]?
    for ranks in [1, 4, 64] {
      let source = MemorySource(count: 3000)
      let parts = try (0..<ranks).map { try Self.load(source, order, rank: $0, ranks: ranks, steps: steps) }
      let seen = Self.joined(parts.map(\.seen))
      let bytes = parts.map(\.bytes).reduce(0, +)
      let (counts, calls) = source.fetched.withLock { $0 }
      #expect(Double(bytes) <= 1.1 * 2 * Double(source.byteCount), "P = \(ranks): \(bytes) of 2 x \(source.byteCount)")
      #expect(bytes == counts.indices.reduce(0) { $0 + counts[$1] * source.record($1).length })
      #expect(counts.max()! <= 2, "P = \(ranks): a sample was read \(counts.max()!) times in 2 epochs")
      #expect(Double(calls) < 0.55 * Double(counts.reduce(0, +)), "P = \(ranks): \(calls) calls")
      // Compared outside, because a failing expectation would print every bit.
      let same = reference.map { seen == $0 } ?? true
      #expect(same, "other samples or views at P = \(ranks)")
      reference = reference ?? seen
    }
  }

  @Test(arguments: [(1, 1), (3, 1), (3, 4), (2, 7)]) func sameOnAnyNumberOfThreads(threads: Int, ahead: Int) throws {
    let source = MemorySource(count: 500)
    let order = Order(count: 500, batch: 24, seed: 1, last: .keep)
    let one = try Self.load(source, order, steps: 0..<42)
    let many = try Self.load(
      source, order, threads: threads, ahead: ahead, steps: 0..<42)
    let same = one.seen == many.seen
    #expect(same)
    #expect(one.bytes == many.bytes || ahead > 1)
    #expect(Set(one.seen[0..<21].flatMap(\.samples)) == Set(0..<500))
    #expect(one.seen.allSatisfy { zip($0.samples, $0.labels).allSatisfy { $0 % 10 == Int($1) } })
  }

  @Test(arguments: [1, 5, 20, 21, 30]) func startsAtAnyStep(step: Int) throws {
    let source = MemorySource(count: 500)
    let order = Order(count: 500, batch: 24, seed: 1, last: .keep)
    let whole = try Self.load(source, order, steps: 0..<42).seen
    let same = try Self.load(source, order, threads: 2, steps: step..<42).seen == Array(whole[step...])
    #expect(same)
  }

  @Test func viewsAreDistinctAndChangeWithTheEpoch() throws {
    let source = MemorySource(count: 40)
    let order = Order(count: 40, batch: 40, seed: 1)
    let seen = try Self.load(source, order, steps: 0..<2).seen
    let area = 9 * 9 * 3
    let first = seen[0].views.map { $0[0] }
    #expect(first.allSatisfy { $0[..<area] != $0[area...] })
    let again = Dictionary(uniqueKeysWithValues: zip(seen[1].samples, seen[1].views))
    for (sample, views) in zip(seen[0].samples, seen[0].views) { #expect(again[sample]! != views) }
  }

  @Test(arguments: [1, 3]) func aDamagedSampleIsNamedAndItsStepOnlyFails(threads: Int) throws {
    let order = Order(count: 100, batch: 10, seed: 1, block: 1)
    let bad = order.samples(step: 3, positions: 4..<5)[0]
    let source = MemorySource(count: 100, perShard: 40, damaged: [bad])
    let loader = try Loader(
      source, order: order, views: Self.recipes, rank: 0, ranks: 1, seed: 5, threads: threads, ahead: 3, from: 0,
      until: 10)
    for _ in 0..<3 { loader.release(try loader.next()) }
    let error = #expect(throws: LoadError.self) { _ = try loader.next() }
    #expect(
      error?.description == "cannot load sample \(bad), sample/\(bad) in shard \(bad / 40): sample \(bad) is damaged")
  }

  /// Ends while threads wait for room, while they work, and when they are done.
  @Test(arguments: [0, 1, 5, 50]) func endsCleanlyAtAnyTime(steps: Int) throws {
    for threads in [1, 3] {
      let source = MemorySource(count: 500)
      let order = Order(count: 500, batch: 10, seed: 1)
      weak var gone: Loader?
      do {
        let loader = try Loader(
          source, order: order, views: Self.recipes, rank: 0, ranks: 1, seed: 5, threads: threads, ahead: 2, from: 0,
          until: 50)
        gone = loader
        for _ in 0..<steps { loader.release(try loader.next()) }
        #expect(loader.secondsWaited >= 0)
      }
      #expect(gone == nil)
    }
  }

  @Test func refusesABatchLargerThanTheData() {
    let source = MemorySource(count: 5)
    let order = Order(count: 5, batch: 6, seed: 1)
    let error = #expect(throws: RecipeError.self) {
      _ = try Loader(
        source, order: order, views: Self.recipes, rank: 0, ranks: 1, seed: 5, threads: 1, ahead: 1, from: 0, until: 1)
    }
    #expect(
      error?.description
        == "batch: 6 images are more than the data set's 5; take a smaller batch, or `last: keep`")
  }

  @Test func moreRanksThanImagesLeavesSomeEmpty() throws {
    let order = Order(count: 10, batch: 4, seed: 1, last: .keep)
    let parts = try (0..<4).map {
      try Self.load(MemorySource(count: 10), order, rank: $0, ranks: 4, steps: 0..<3).seen
    }
    #expect(parts.map { $0[2].samples.count } == [0, 1, 0, 1])
    #expect(Set(Self.joined(parts).flatMap(\.samples)) == Set(0..<10))
  }

  /// Writes, opens and loads shards.
  @Test func loadsFromShards() throws {
    let memory = MemorySource(count: 300, perShard: 300)
    let order = Order(count: 300, batch: 20, seed: 1)
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-loader-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let writer = try DataSetWriter(path, classNames: (0..<10).map(String.init), shardSize: 20_000)
    for sample in 0..<300 {
      var bytes: [UInt8] = []
      try memory.fetch(sample..<sample + 1, into: &bytes)
      try bytes.withUnsafeBytes { try writer.append($0, memory.record(sample), key: "k\(sample)") }
    }
    let data = try writer.finish(mean: memory.mean, deviation: memory.deviation)
    #expect(data.shards.count > 2)
    let loader = try Loader(
      data, order: order, views: Self.recipes, rank: 1, ranks: 2, seed: 5, threads: 2, ahead: 2, from: 0, until: 15)
    let expected = try Self.load(memory, order, rank: 1, ranks: 2, steps: 0..<15).seen
    for step in 0..<15 {
      let batch = try loader.next()
      let area = 9 * 9 * 3
      #expect(batch.samples == expected[step].samples && batch.labels == expected[step].labels)
      for i in 0..<batch.count {
        let pixels = (0..<area).map { batch.groups[0].pixels[i * area + $0].bitPattern }
        #expect(pixels == Array(expected[step].views[i][0][..<area]))
      }
      loader.release(batch)
    }
  }
}
