import Randomness
import Ranks
import Shards
import Testing

@Suite struct OrderTests {
  struct Case: CustomTestStringConvertible {
    var count: Int, batch: Int, block = 16, window = 4, last = LastBatch.drop
    var order: Order { order(seed: 3) }
    func order(seed: UInt64) -> Order {
      Order(count: count, batch: batch, seed: seed, block: block, window: window, last: last)
    }
    var testDescription: String { "\(count) samples, batch \(batch), \(window) x \(block), \(last)" }
  }

  static let sizes = [
    (1, 1), (7, 7), (10, 3), (100, 64), (300, 256), (1000, 1), (1024, 256), (5003, 32), (20000, 17),
  ]
  static let cases: [Case] = sizes.flatMap { n, b in
    [(16, 4), (1, 1), (64, 2), (5, 3)].flatMap { block, window in
      LastBatch.allCases.map { Case(count: n, batch: b, block: block, window: window, last: $0) }
    }
  }

  /// All samples of an epoch, by step.
  static func epoch(_ order: Order, _ epoch: Int) -> [[Int]] {
    (0..<order.stepsPerEpoch).map { step in
      let step = epoch * order.stepsPerEpoch + step
      return order.samples(step: step, positions: 0..<order.size(ofStep: step))
    }
  }

  @Test(arguments: cases) func everySampleOnceAnEpoch(_ c: Case) {
    for epoch in [0, 1, 5] {
      let steps = Self.epoch(c.order, epoch)
      let all = steps.flatMap { $0 }
      #expect(all.allSatisfy { 0 <= $0 && $0 < c.count })
      #expect(Set(all).count == all.count, "a sample twice in epoch \(epoch)")
      #expect(all.count == (c.last == .keep ? c.count : c.count / c.batch * c.batch))
      #expect(steps.dropLast().allSatisfy { $0.count == c.batch })
    }
  }

  @Test(arguments: cases) func anyPartOfAStepIsTheSame(_ c: Case) {
    let order = c.order
    for step in [0, order.stepsPerEpoch / 2, 3 * order.stepsPerEpoch - 1] {
      let size = order.size(ofStep: step)
      let whole = order.samples(step: step, positions: 0..<size)
      for ranks in [1, 2, 3, 64] {
        let parts = (0..<ranks).map { share(of: size, rank: $0, ranks: ranks) }
        #expect(parts.flatMap { order.samples(step: step, positions: $0) } == whole)
      }
      #expect(whole.indices.map { order.place(step: step, position: $0).sample } == whole)
    }
  }

  @Test func epochsAndSeedsDiffer() {
    let order = Case(count: 5000, batch: 50).order
    let first = Self.epoch(order, 0)
    let second = Self.epoch(order, 1)
    let other = Self.epoch(Case(count: 5000, batch: 50).order(seed: 4), 0)
    for pair in [(first, second), (first, other)] {
      let same = zip(pair.0, pair.1).map { Set($0).intersection($1).count }.reduce(0, +)
      // Two independent orders share 50·50/5000 = 0.5 samples per step: 50 in 100 steps, deviation about 7.
      #expect(same < 100)
    }
  }

  /// A lane uses exactly the samples of its `run`, until `windowEnd`.
  @Test(arguments: cases) func runsAreUsedByTheirLane(_ c: Case) {
    let order = c.order
    for lane in Set([0, c.batch / 2, c.batch - 1]) {
      let length = (0..<order.stepsPerEpoch).filter { order.size(ofStep: $0) > lane }
      let places = length.map { order.place(step: $0, position: lane) }
      let windows = Dictionary(grouping: places, by: \.windowEnd).mapValues { Set($0.map(\.sample)) }
      for (step, place) in zip(length, places) {
        let right =
          place.run.contains(place.sample) && place.run.upperBound <= c.count
          && place.run.count <= order.block && step <= place.windowEnd
          && windows[place.windowEnd]!.isSuperset(of: place.run)
        if !right { Issue.record("lane \(lane), step \(step): \(place)") }
      }
    }
  }

  @Test func blocksAdaptToSmallSets() {
    #expect(Case(count: 60_000, batch: 256).order.block == 16)
    #expect(Case(count: 10_000, batch: 256).order.block == 9)  // 39 steps in 4 blocks
    #expect(Case(count: 1000, batch: 256).order.block == 1)
  }

  @Test func sharesCoverWithoutOverlap() {
    for (count, ranks) in [(256, 3), (5, 8), (0, 2), (64, 64), (1000, 7)] {
      let parts = (0..<ranks).map { share(of: count, rank: $0, ranks: ranks) }
      #expect(parts.flatMap(Array.init) == Array(0..<count))
      #expect(parts.map(\.count).max()! - parts.map(\.count).min()! <= 1)
    }
  }
}

/// How well batches are mixed if the data is sorted by class, with 100 consecutive samples per class.
@Suite struct MixingTests {
  struct Case: CustomTestStringConvertible {
    var count: Int, batch: Int
    var testDescription: String { "\(count) samples, batch \(batch)" }
  }

  /// Number of pairs in a batch within 16 of each other in the data, relative to a uniform choice.
  static func neighbours(_ batch: [Int], of count: Int) -> Double {
    let sorted = batch.sorted()
    var pairs = 0
    for i in sorted.indices {
      for j in sorted[(i + 1)...] {
        if j - sorted[i] > 16 { break }
        pairs += 1
      }
    }
    let b = Double(batch.count)
    return Double(pairs) / (b * (b - 1) / 2 * 32 / Double(count))
  }

  /// 1 is a uniform choice. With B lanes far apart in the row, neighbours meet less often than by chance.
  @Test(arguments: [Case(count: 60_000, batch: 256), Case(count: 10_000, batch: 256), Case(count: 2000, batch: 64)])
  func neighboursDoNotMeetInABatch(_ c: Case) {
    let order = Order(count: c.count, batch: c.batch, seed: 1)
    let ratios = (0..<20).map { Self.neighbours(order.samples(step: $0 * 7, positions: 0..<c.batch), of: c.count) }
    let mean = ratios.reduce(0, +) / 20
    #expect(mean > 0.5 && mean < 1.15, "\(mean) times as many neighbours as by chance")
    // Control: consecutive samples are detected.
    #expect(Self.neighbours(Array(0..<c.batch), of: c.count) > 5)
  }

  /// χ² of class counts over batches is at most that of a uniform choice, so classes are even in a batch.
  @Test(arguments: [Case(count: 60_000, batch: 256), Case(count: 10_000, batch: 256)])
  func classesAreEven(_ c: Case) {
    let order = Order(count: c.count, batch: c.batch, seed: 2)
    let classes = 10
    var total = 0.0
    let steps = order.stepsPerEpoch
    for step in 0..<steps {
      var counts = [Int](repeating: 0, count: classes)
      for s in order.samples(step: step, positions: 0..<c.batch) { counts[s * classes / c.count] += 1 }
      let expected = Double(c.batch) / Double(classes)
      total += counts.reduce(0) { $0 + (Double($1) - expected) * (Double($1) - expected) / expected }
    }
    // A uniform choice has a mean of 9 with deviation √(18/steps). Lanes may stay in a block for some steps, which
    // does not change the mean but increases the deviation, at most by √(window · block) = 8.
    #expect(total / Double(steps) < 9 + 3 * 8 * (18 / Double(steps)).squareRoot())
  }

  /// The next batch holds a neighbour (± 1) of few of this batch's samples. A neighbour has its place in the same
  /// window of 64, and then at the next step with 1/63: two of them, 3.2 %; by chance alone 2 · 256/60,000 = 0.9 %;
  /// half windows at an epoch's ends add some.
  @Test func consecutiveBatchesAreNotNeighbours() {
    let order = Order(count: 60_000, batch: 256, seed: 1)
    for first in [0, 100, order.stepsPerEpoch - 21] {
      var near = 0
      for step in first..<first + 20 {
        let next = Set(order.samples(step: step + 1, positions: 0..<256))
        let now = order.samples(step: step, positions: 0..<256)
        near += now.filter { next.contains($0 - 1) || next.contains($0 + 1) }.count
      }
      #expect(Double(near) / (20 * 256) < 0.055, "from step \(first)")
    }
  }
}
