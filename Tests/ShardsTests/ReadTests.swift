import Ranks
import Shards
import Synchronization
import Testing

/// Reads at the sizes of the built-in recipes: a million photographs of 110 KB.
@Suite struct ReadTests {
  /// A source without bytes, for counting reads.
  private final class Photographs: ImageSource {
    let count: Int, length: Int
    let channels = 3
    let mean = [0.5, 0.5, 0.5]
    let deviation = [0.2, 0.2, 0.2]
    private let perShard = 9000

    init(count: Int, length: Int) {
      self.count = count
      self.length = length
    }

    func record(_ sample: Int) throws -> ImageRecord {
      ImageRecord(
        offset: sample % perShard * length, length: length, width: 500, height: 375, channels: 3, encoding: .jpeg)
    }
    func name(_ sample: Int) -> String { "\(sample)" }
    func neighbours(of sample: Int) -> Range<Int> {
      sample / perShard * perShard..<min(count, (sample / perShard + 1) * perShard)
    }
    func fetch(_ samples: Range<Int>, into bytes: inout [UInt8]) throws {}
  }

  private func plan(
    _ source: any ImageSource, batch: Int, window: Int = 64, cache: Int = 16 << 20
  ) throws -> ReadPlan {
    try ReadPlan(source, batch: batch, seed: 1, block: 16, window: window, cache: cache, last: .drop)
  }

  /// Simulates the reads of some lanes in an epoch, with runs cached: bytes read per byte used, images per read, and
  /// images held.
  private func reads(_ order: Order, lanes: [Int], ahead: Int) -> (ratio: Double, images: Double, held: Int) {
    var read = 0
    var calls = 0
    var used = 0
    var most = 0
    for lane in lanes {
      var held: [(run: Range<Int>, end: Int, left: Int)] = []
      for step in 0..<order.stepsPerEpoch {
        let place = order.place(step: step, position: lane)
        held.removeAll { $0.end + ahead < step }
        used += 1
        if let index = held.firstIndex(where: { $0.run == place.run && $0.end == place.windowEnd }) {
          held[index].left -= 1
          if held[index].left == 0 { held.remove(at: index) }
        } else {
          read += place.run.count
          calls += 1
          if place.run.count > 1 { held.append((place.run, place.windowEnd, place.run.count - 1)) }
        }
        most = max(most, held.reduce(0) { $0 + $1.run.count })
      }
    }
    return (Double(read) / Double(used), Double(read) / Double(calls), most)
  }

  /// Batches of the built-in recipes.
  @Test(arguments: [256, 1024, 4096]) func readsAreSequentialAtTheRecipesSizes(batch: Int) throws {
    let source = Photographs(count: 1_281_167, length: 110_000)
    let plan = try plan(source, batch: batch)
    #expect(plan.order.block >= 12 && plan.order.window >= 4, "\(plan.order)")
    let reads = reads(plan.order, lanes: [0, 1, batch / 2, batch - 1], ahead: 3)
    #expect(reads.ratio <= 1.1 && reads.images > 8, "\(reads)")
    // A lane holds no more than the plan allows.
    #expect(reads.held * source.length <= 16 << 20, "\(reads.held) images")
    for ranks in [8, 64, 512] where ranks <= batch {
      let lanes = share(of: batch, rank: 0, ranks: ranks).count
      #expect(plan.cacheBytes(rank: 0, ranks: ranks) <= lanes * (16 << 20))
      #expect(plan.cacheBytes(rank: 0, ranks: ranks) > 0)
    }
    #expect(plan.notices.count == 1 && plan.notices[0].contains("blocks of 16 images are mixed, not data.window's 64"))
  }

  @Test func smallImagesKeepTheirOrder() throws {
    for (count, length, batch) in [(60_000, 784, 128), (50_000, 3072, 256), (100_000, 8000, 64)] {
      let plan = try plan(Photographs(count: count, length: length), batch: batch)
      #expect(plan.order == Order(count: count, batch: batch, seed: 1, block: 16, window: 64))
      #expect(plan.notices.isEmpty)
    }
  }

  @Test func whatIsNotSequentialIsSaid() throws {
    // Images that are too large for the cache.
    var notices = try plan(Photographs(count: 100_000, length: 8 << 20), batch: 256).notices
    #expect(notices.count == 1 && notices[0].contains("reads are not sequential") && notices[0].contains("data.cache"))
    // An epoch of few batches.
    notices = try plan(Photographs(count: 100_000, length: 110_000), batch: 4096).notices
    #expect(notices.count == 1 && notices[0].contains("an epoch has 24 batches, data.window mixes 64"))
    #expect(try plan(Photographs(count: 100_000, length: 110_000), batch: 4096, window: 4).notices.isEmpty)
    // A set that stays in the page cache.
    #expect(try plan(Photographs(count: 1000, length: 110_000), batch: 256).notices.isEmpty)
  }

  /// The bytes that the loader counts, with a cache so small that window and block are reduced.
  @Test(arguments: [1, 4]) func theLoaderReadsEachByteOnceUnderASmallCache(ranks: Int) throws {
    let source = MemorySource(count: 3000)
    let mean = try source.meanLength()
    let plan = try plan(source, batch: 16, cache: 60 * mean)
    #expect(plan.order.block == 10 && plan.order.window == 4)
    var bytes = 0
    for rank in 0..<ranks {
      bytes += try LoaderTests.load(
        source, plan.order, rank: rank, ranks: ranks, steps: 0..<plan.order.stepsPerEpoch
      ).bytes
    }
    #expect(Double(bytes) <= 1.1 * Double(source.byteCount), "\(bytes) of \(source.byteCount)")
  }
}
