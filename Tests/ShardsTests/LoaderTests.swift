import Foundation
import Randomness
import Shards
import Synchronization
import Testing
import Threading

/// A data set in memory: small raw images of keyed noise, in shards of `perShard`.
final class MemorySource: ImageSource {
  let count: Int, channels: Int, mean: [Double], deviation: [Double]
  private let perShard: Int
  private let records: [ImageRecord]
  private let bytes: [UInt8]
  private let damaged: Set<Int>
  /// How often each sample was fetched, and in how many calls.
  let fetched: Mutex<(samples: [Int], calls: Int)>

  init(count: Int, channels: Int = 3, perShard: Int = 1000, damaged: Set<Int> = []) {
    (self.count, self.channels, self.perShard, self.damaged) = (count, channels, perShard, damaged)
    mean = [Double](repeating: 0.4, count: channels)
    deviation = [Double](repeating: 0.2, count: channels)
    var records: [ImageRecord] = [], bytes: [UInt8] = []
    for sample in 0..<count {
      var draws = Draws(seed: 9, .check, UInt64(sample))
      let width = 8 + draws.integer(below: 5), height = 8 + draws.integer(below: 5), length = width * height * channels
      let offset = sample % perShard == 0 ? 0 : records[sample - 1].offset + records[sample - 1].length
      records.append(
        ImageRecord(
          offset: offset, length: length, width: width, height: height, channels: channels, encoding: .raw,
          label: Int32(sample % 10)))
      for _ in 0..<length { bytes.append(UInt8(truncatingIfNeeded: draws.bits())) }
    }
    self.records = records
    self.bytes = bytes
    fetched = Mutex(([Int](repeating: 0, count: count), 0))
    starts = records.indices.reduce(into: [0]) { $0.append($0[$1] + records[$1].length) }
  }

  private let starts: [Int]
  var byteCount: Int { bytes.count }

  func record(_ sample: Int) -> ImageRecord { records[sample] }
  func name(_ sample: Int) -> String { "sample/\(sample) in shard \(sample / perShard)" }
  func neighbours(of sample: Int) -> Range<Int> {
    sample / perShard * perShard..<min(count, (sample / perShard + 1) * perShard)
  }
  func fetch(_ samples: Range<Int>, into out: inout [UInt8]) throws {
    precondition(neighbours(of: samples.lowerBound) == neighbours(of: samples.upperBound - 1), "over a shard's end")
    if let sample = samples.first(where: damaged.contains) { throw ImageError("sample \(sample) is damaged") }
    out = Array(bytes[starts[samples.lowerBound]..<starts[samples.upperBound]])
    fetched.withLock {
      $0.calls += 1
      for sample in samples { $0.samples[sample] += 1 }
    }
  }
}

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

  /// One rank's steps: samples, labels and every bit of the views, by image.
  struct Seen: Equatable {
    var samples: [Int] = [], labels: [Int32] = [], views: [[[UInt32]]] = []
  }

  static func load(
    _ source: MemorySource, _ order: Order, rank: Int = 0, ranks: Int = 1, threads: Int = 1, ahead: Int = 2,
    steps: Range<Int>, cache: Int = 1 << 30
  ) throws -> (seen: [Seen], bytes: Int) {
    let loader = try Loader(
      source, order: order, views: recipes, rank: rank, ranks: ranks, seed: 5, threads: threads, ahead: ahead,
      from: steps.lowerBound, until: steps.upperBound, cache: cache)
    var all: [Seen] = []
    for step in steps {
      let batch = try loader.next()
      #expect(batch.step == step && batch.epoch == step / order.stepsPerEpoch)
      #expect(batch.globalCount == order.size(ofStep: step))
      #expect(batch.positions == share(of: batch.globalCount, rank: rank, ranks: ranks))
      all.append(Seen(samples: batch.samples, labels: batch.labels, views: batch.samples.indices.map { image in
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

  /// Ranks' shares put together again.
  static func joined(_ parts: [[Seen]]) -> [Seen] {
    parts[0].indices.map { step in
      parts.reduce(into: Seen()) {
        $0.samples += $1[step].samples
        $0.labels += $1[step].labels
        $0.views += $1[step].views
      }
    }
  }

  /// A simulated run of two epochs on 1, 4 and 64 ranks, and one with a last batch that does not divide.
  @Test(arguments: LastBatch.allCases) func sameOnAnyNumberOfRanksAndEachByteReadOnce(_ last: LastBatch) throws {
    let order = Order(count: 3000, batch: 128, seed: 1, last: last), steps = 0..<2 * order.stepsPerEpoch
    #expect(order.block > 1)
    var reference: [Seen]?
    for ranks in [1, 4, 64] {
      let source = MemorySource(count: 3000)
      let parts = try (0..<ranks).map { try Self.load(source, order, rank: $0, ranks: ranks, steps: steps) }
      let seen = Self.joined(parts.map(\.seen)), bytes = parts.map(\.bytes).reduce(0, +)
      let (counts, calls) = source.fetched.withLock { $0 }
      #expect(Double(bytes) <= 1.1 * 2 * Double(source.byteCount), "P = \(ranks): \(bytes) of 2 x \(source.byteCount)")
      #expect(bytes == counts.indices.reduce(0) { $0 + counts[$1] * source.record($1).length })
      #expect(counts.max()! <= 2, "P = \(ranks): a sample was read \(counts.max()!) times in 2 epochs")
      #expect(Double(calls) < 0.55 * Double(counts.reduce(0, +)), "P = \(ranks): \(calls) calls")
      if let reference { #expect(seen == reference, "P = \(ranks)") } else { reference = seen }
    }
  }

  @Test(arguments: [(1, 1), (3, 1), (3, 4), (2, 7)]) func sameOnAnyNumberOfThreads(threads: Int, ahead: Int) throws {
    let source = MemorySource(count: 500), order = Order(count: 500, batch: 24, seed: 1, last: .keep)
    let one = try Self.load(source, order, steps: 0..<42), many = try Self.load(
      source, order, threads: threads, ahead: ahead, steps: 0..<42)
    #expect(one.seen == many.seen)
    #expect(one.bytes == many.bytes || ahead > 1)
    #expect(Set(one.seen[0..<21].flatMap(\.samples)) == Set(0..<500))
    #expect(one.seen.allSatisfy { zip($0.samples, $0.labels).allSatisfy { $0 % 10 == Int($1) } })
  }

  @Test(arguments: [1, 5, 20, 21, 30]) func startsAtAnyStep(step: Int) throws {
    let source = MemorySource(count: 500), order = Order(count: 500, batch: 24, seed: 1, last: .keep)
    let whole = try Self.load(source, order, steps: 0..<42).seen
    #expect(try Self.load(source, order, threads: 2, steps: step..<42).seen == Array(whole[step...]))
  }

  @Test func aSmallCacheChangesReadsOnly() throws {
    let source = MemorySource(count: 500), order = Order(count: 500, batch: 8, seed: 1)
    let kept = try Self.load(source, order, steps: 0..<20), single = try Self.load(source, order, steps: 0..<20, cache: 0)
    #expect(kept.seen == single.seen)
  }

  @Test func viewsAreDistinctAndChangeWithTheEpoch() throws {
    let source = MemorySource(count: 40), order = Order(count: 40, batch: 40, seed: 1)
    let seen = try Self.load(source, order, steps: 0..<2).seen
    let area = 9 * 9 * 3, first = seen[0].views.map { $0[0] }
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

  /// Threads that wait for room, that are at work, and that are done.
  @Test(arguments: [0, 1, 5, 50]) func endsCleanlyAtAnyTime(steps: Int) throws {
    for threads in [1, 3] {
      let source = MemorySource(count: 500), order = Order(count: 500, batch: 10, seed: 1)
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
    let source = MemorySource(count: 5), order = Order(count: 5, batch: 6, seed: 1)
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

  /// Through the store: written, opened, loaded.
  @Test func loadsFromShards() throws {
    let memory = MemorySource(count: 300, perShard: 300), order = Order(count: 300, batch: 20, seed: 1)
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
      let batch = try loader.next(), area = 9 * 9 * 3
      #expect(batch.samples == expected[step].samples && batch.labels == expected[step].labels)
      for i in 0..<batch.count {
        let pixels = (0..<area).map { batch.groups[0].pixels[i * area + $0].bitPattern }
        #expect(pixels == Array(expected[step].views[i][0][..<area]))
      }
      loader.release(batch)
    }
  }
}

@Suite struct ScaledDecodeTests {
  /// A picture of 320 x 240 whose red is x/319 and whose green is y/239: a view shows which part it really shows.
  @Test func viewsOfAScaledDecodeShowTheSamePlace() throws {
    let file = Bundle.module.resourceURL!.appendingPathComponent("Fixtures/augmentation/place.jpg")
    let bytes = [UInt8](try Data(contentsOf: file))
    let record = ImageRecord(length: bytes.count, width: 320, height: 240, channels: 3, encoding: .jpeg, colour: 3)
    let recipes = [
      ViewRecipe(count: 2, size: 24, operations: [Crop(scale: Bounds(0.3, 1), interpolation: .bicubic)]),
      ViewRecipe(count: 2, size: 10, operations: [Crop(scale: Bounds(0.05, 0.2))]), ViewRecipe(size: 16, operations: [Centre()]),
    ]
    let views = try Views(recipes, channels: 3, mean: [], deviation: []), maker = ViewMaker(views)
    let sizes = recipes.map { $0.count * $0.size * $0.size * 3 }, starts = [0, sizes[0], sizes[0] + sizes[1]]
    func make(_ mode: DecodeMode, _ sample: Int) throws -> [Float] {
      var out = [Float](repeating: .nan, count: sizes.reduce(0, +))
      try out.withUnsafeMutableBufferPointer { out in
        try bytes.withUnsafeBytes {
          try maker.make($0, record, ViewKey(seed: 1, epoch: 0, step: 0, sample: sample, view: 0), mode) {
            out.baseAddress! + starts[$0] + $1 * recipes[$0].size * recipes[$0].size * 3
          }
        }
      }
      return out
    }
    var differ = false
    for sample in 0..<40 {
      let full = try make(.full, sample), scaled = try make(.scaled, sample)
      let off = zip(full, scaled).map { abs($0 - $1) }.max()!
      // Smooth colours are the same at M/8 but for JPEG's own rounding; a place wrong by one pixel of 8/M would be
      // up to 8/239.
      #expect(off < 4.0 / 255, "sample \(sample): \(off * 255)/255")
      differ = differ || off > 0
    }
    #expect(differ, "nothing was decoded at a smaller scale")
  }
}

@Suite struct EvaluationViewTests {
  @Test func sameOnAnyTeamAndInRange() throws {
    let source = MemorySource(count: 60), samples = [3, 59, 3] + Array(10..<50)
    func views(_ threads: Int, _ view: EvaluationView) throws -> [Float] {
      var out = [Float](repeating: .nan, count: samples.count * 100 * 3)
      try out.withUnsafeMutableBufferPointer {
        try view.fill(source, samples: samples, into: $0.baseAddress!, ThreadTeam(count: threads))
      }
      return out
    }
    for margin in [nil, 8.0 / 7] {
      let view = EvaluationView(size: 10, margin: margin, normalise: .none)
      let one = try views(1, view), three = try views(3, view)
      #expect(one == three)
      #expect(one.allSatisfy { 0 <= $0 && $0 <= 1 })
      #expect(one[..<300] == one[600..<900] && one[..<300] != one[300..<600])
    }
  }

  @Test func namesADamagedSample() throws {
    let source = MemorySource(count: 60, damaged: [41, 20])
    var out = [Float](repeating: 0, count: 60 * 300)
    let error = #expect(throws: LoadError.self) {
      try out.withUnsafeMutableBufferPointer {
        try EvaluationView(size: 10).fill(source, samples: Array(0..<60), into: $0.baseAddress!, ThreadTeam(count: 2))
      }
    }
    #expect(error?.sample == 20)
  }
}
