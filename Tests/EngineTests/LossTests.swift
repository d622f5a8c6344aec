import Engine
import Foundation
import Randomness
import Ranks
import TestSupport
import Testing

/// A batch of embeddings, the loss of the reference and the bounds.
///
/// Bounds: a logit of D products of unit vectors has an error of δ ≤ (D+4)·u/τ, a probability the factor 1 ± (2δ+8u).
/// A row of the gradient sums M of them: |error| ≤ (row's + column's probability + 2)·scale/τ·(2δ + (M+10)·u), twice
/// that through the normalisation, divided by the row's norm.
struct NTXentCase: Sendable, CustomStringConvertible {
  let batch: Int, width: Int, temperature: Double
  let z: Map
  /// SimCLR v2's memory.
  let queue: Map?
  let loss: Double, gradient: [Double]
  let lossBound: Double, gradientBound: [Double]
  var description: String { "\(batch) images, \(width) features, temperature \(temperature), queue \(queue?.n ?? 0)" }

  /// - Parameters:
  ///   - alike: weight of the first view in the second.
  ///   - length: length of the queue; nil for none.
  init(batch: Int, width: Int, temperature: Double, alike: Double = 0, queue length: Int? = nil) {
    self.batch = batch
    self.width = width
    self.temperature = temperature
    var draws = Draws(test: "embeddings \(batch) \(width)")
    var values = draws.normals(2 * batch * width, deviation: 2)
    for i in 0..<batch * width { values[batch * width + i] += alike * values[i] }
    z = Map(n: 2 * batch, c: width, values.map { Double(Float($0)) })
    let queue = length.map { length in
      ReferenceLayers.normalise(Map(n: length, c: width, draws.normals(length * width))).map { Double(Float($0)) }
    }
    self.queue = queue
    loss = ReferenceLosses.ntXent(z, queue: queue, temperature: temperature)
    gradient = ReferenceLosses.ntXentGradient(z, queue: queue, temperature: temperature).values
    let u = roundoff
    let delta = Double(width + 4) * u / temperature
    lossBound = 2 * delta + 8 * u * (1 + loss)
    let rows = 2 * batch
    let unit = ReferenceLayers.normalise(z)
    var column = [Double](repeating: 0, count: rows)
    for i in 0..<rows {
      let e = (0..<rows).map { j in
        i == j ? 0 : exp(zip(unit.row(i), unit.row(j)).reduce(0) { $0 + $1.0 * $1.1 } / temperature)
      }
      let sum = e.reduce(0, +)
      for j in 0..<rows { column[j] += e[j] / sum }
    }
    let candidates = rows + (length ?? 0)
    let z = z
    let error = (2 * delta + Double(candidates + 10) * u) / temperature / Double(rows)
    gradientBound = z.values.indices.map { i in
      let row = i / width
      let norm = z.row(row).reduce(0) { $0 + $1 * $1 }.squareRoot()
      return 2 * (1 + column[row] + 2) * error / norm
    }
  }

  /// The engine's loss and gradient on one rank. The gradient has the rows of the whole batch, 0 in other ranks' rows.
  func run(threads: Int = 1, scale: Float = 1, order: [Int]? = nil, _ communicator: any Communicator = SingleProcess())
    -> (statistics: LossStatistics, gradient: [Float])
  {
    let context = Context(threads: threads, communicator: communicator, arena: Arena(reserving: 1 << 26))
    defer { withExtendedLifetime(context) {} }
    let shares = (0..<communicator.size).map { positions(of: batch, rank: $0, ranks: communicator.size).count }
    let local = positions(of: batch, rank: communicator.rank, ranks: communicator.size)
    let images = (Array(local) + local.map { $0 + batch }).map { order?[$0] ?? $0 }
    let z = context.arena.tensor(n: images.count, c: width)
    for (i, value) in images.flatMap(self.z.row).enumerated() { z.buffer[i] = Float(value) }
    let keys = queue.map { queue in
      let keys = context.arena.tensor(n: queue.n, c: width)
      for (i, value) in queue.values.enumerated() { keys.buffer[i] = Float(value) }
      return keys
    }
    let statistics = NTXent(temperature: Float(temperature), scale: scale).apply(
      z, shares: shares, queue: keys, context)
    var gradient = [Float](repeating: 0, count: self.z.values.count)
    for (i, image) in images.enumerated() {
      for j in 0..<width { gradient[image * width + j] = z.buffer[i * width + j] }
    }
    return (statistics, gradient)
  }

  func expect(_ statistics: LossStatistics, _ gradient: [Float], _ what: String) {
    #expect(statistics.rows == Double(2 * batch))
    let found = statistics.loss / statistics.rows
    #expect(abs(found - loss) <= lossBound, "\(what): loss \(found) for \(loss)")
    expectClose(gradient, self.gradient, within: gradientBound, what)
  }
}

/// Sum over ranks. Each rank's gradient is 0 outside its own rows.
private func sum(_ gradients: [[Float]]) -> [Float] {
  gradients.dropFirst().reduce(gradients[0]) { zip($0, $1).map(+) }
}

@Suite struct NTXentTests {
  @Test(arguments: [2, 3, 8, 33, 70], [0.1, 0.5]) func equalsPaper(batch: Int, temperature: Double) {
    for width in [3, 16, 40] {
      let test = NTXentCase(batch: batch, width: width, temperature: temperature)
      let (statistics, gradient) = test.run()
      test.expect(statistics, gradient, "\(test)")
    }
  }

  @Test(arguments: [7, 33], [1, 2, 3, 4]) func ranksEqualPaper(batch: Int, ranks: Int) {
    let test = NTXentCase(batch: batch, width: 17, temperature: 0.2)
    let runs = Ranks.run(ranks) { test.run($0) }
    for run in runs { #expect(run.statistics == runs[0].statistics) }
    test.expect(runs[0].statistics, sum(runs.map(\.gradient)), "\(ranks) ranks, \(test)")
  }

  /// With SimCLR v2's memory the queue's keys are additional negatives of every anchor.
  @Test(arguments: [(2, 3, 1), (3, 16, 7), (33, 17, 200), (70, 40, 65)], [0.1, 0.5])
  func withAQueueEqualsPaper(shape: (batch: Int, width: Int, queue: Int), temperature: Double) {
    let test = NTXentCase(batch: shape.batch, width: shape.width, temperature: temperature, queue: shape.queue)
    for threads in [1, 2] {
      let (statistics, gradient) = test.run(threads: threads)
      test.expect(statistics, gradient, "\(test), \(threads) threads")
    }
  }

  @Test(arguments: [1, 2, 3, 4]) func ranksWithAQueueEqualPaper(ranks: Int) {
    let test = NTXentCase(batch: 7, width: 17, temperature: 0.2, queue: 30)
    let runs = Ranks.run(ranks) { test.run($0) }
    for run in runs { #expect(run.statistics == runs[0].statistics) }
    test.expect(runs[0].statistics, sum(runs.map(\.gradient)), "\(ranks) ranks, \(test)")
  }

  @Test func emptyRanks() {
    let test = NTXentCase(batch: 2, width: 5, temperature: 0.5)
    let runs = Ranks.run(4) { test.run($0) }
    test.expect(runs[0].statistics, sum(runs.map(\.gradient)), "2 images on 4 ranks")
  }

  /// Control: if the gradient of the gather is not summed over ranks, the error is at least ten times the bound.
  @Test(arguments: [2, 3, 4]) func unsummedGatherMissesTheBound(ranks: Int) {
    let test = NTXentCase(batch: 7, width: 17, temperature: 0.2)
    let runs = Ranks.run(ranks, silent: .gatheredGradient) { test.run($0) }
    #expect(worstRatio(sum(runs.map(\.gradient)).map(Double.init), test.gradient, test.gradientBound).ratio > 10)
  }

  /// ln(2N − 1 + K), because all candidates are equally likely.
  @Test(arguments: [2, 5, 70], [nil, 1, 60]) func identicalEmbeddings(batch: Int, length: Int?) {
    let context = Context(arena: Arena(reserving: 1 << 24))
    defer { withExtendedLifetime(context) {} }
    let z = context.arena.normal(n: 2 * batch, c: 8, "identical")
    for i in z.buffer.indices { z.buffer[i] = z.buffer[i % 8] }
    let queue = length.map { length in
      let queue = context.arena.tensor(n: length, c: 8)
      for i in queue.buffer.indices { queue.buffer[i] = z.buffer[i % 8] }
      L2Normalise.forward(queue, into: queue, norms: nil, context)
      return queue
    }
    let statistics = NTXent(temperature: 0.1).apply(z, shares: [batch], queue: queue, context)
    #expect(abs(statistics.loss / statistics.rows - log(Double(2 * batch - 1 + (length ?? 0)))) < 1e-5)
    #expect(
      abs(statistics.positive / statistics.rows - 1) < 1e-5 && abs(statistics.negative / statistics.rows - 1) < 1e-5)
    // By symmetry the gradient is 0, up to the rounding of probabilities, divided by τ and the norm.
    #expect(z.buffer.allSatisfy { abs($0) < 1e-5 })
  }

  /// One image has no negatives, so loss and gradient are 0.
  @Test func oneImage() {
    let context = Context(arena: Arena(reserving: 1 << 24))
    defer { withExtendedLifetime(context) {} }
    let z = context.arena.normal(n: 2, c: 5, "one image")
    let statistics = NTXent(temperature: 0.1).apply(z, shares: [1], context)
    #expect(abs(statistics.loss) < 1e-6 && statistics.correct == 2 && statistics.negative == 0)
    #expect(z.buffer.allSatisfy { abs($0) < 1e-6 })
    #expect(NTXent.negatives(batch: 1) == 0 && NTXent.negatives(batch: 5) == 8)
  }

  @Test func viewsMayBeSwappedAndImagesPermuted() {
    let test = NTXentCase(batch: 9, width: 16, temperature: 0.3)
    var draws = Draws(test: "permutation")
    let permutation = draws.shuffled(9)
    for order in [Array(9..<18) + Array(0..<9), permutation + permutation.map { $0 + 9 }] {
      let (statistics, gradient) = test.run(order: order)
      test.expect(statistics, gradient, "order \(order)")
    }
  }

  /// google-research/simclr's objective is twice the paper's.
  @Test func scaleIsAFactorOfLossAndGradient() {
    let test = NTXentCase(batch: 6, width: 8, temperature: 0.2)
    let one = test.run()
    let two = test.run(scale: 2)
    #expect(two.statistics.loss == 2 * one.statistics.loss && two.statistics.rows == one.statistics.rows)
    #expect(two.gradient == one.gradient.map { 2 * $0 })
  }

  @Test func statisticsOfRows() {
    let n = 60
    let test = NTXentCase(batch: n, width: 6, temperature: 0.5, alike: 1.5)
    let unit = ReferenceLayers.normalise(test.z)
    func s(_ i: Int, _ j: Int) -> Double { zip(unit.row(i), unit.row(j)).reduce(0) { $0 + $1.0 * $1.1 } }
    var correct = 0.0
    var positive = 0.0
    var negative = 0.0
    for i in 0..<2 * n {
      let j = (i + n) % (2 * n)
      let others = (0..<2 * n).filter { $0 != i && $0 != j }.map { s(i, $0) }
      positive += s(i, j)
      negative += others.reduce(0, +) / Double(2 * n - 2)
      if s(i, j) > others.max()! { correct += 1 }
    }
    let found = test.run().statistics
    #expect(found.correct == correct && correct > 20 && correct < 100)
    // Sums of 2N cosines, each within (D+4)·u, twice for the product with τ.
    let bound = Double(2 * n * 20) * roundoff
    #expect(abs(found.positive - positive) < bound && abs(found.negative - negative) < bound)
  }

  @Test func threadsDoNotChangeABit() {
    let test = NTXentCase(batch: 70, width: 40, temperature: 0.1)
    let one = test.run()
    for threads in [2, 3] {
      let run = test.run(threads: threads)
      #expect(run.gradient == one.gradient && run.statistics == one.statistics)
    }
  }

  @Test func notANumberIsNotHidden() {
    let context = Context(arena: Arena(reserving: 1 << 24))
    defer { withExtendedLifetime(context) {} }
    let z = context.arena.normal(n: 6, c: 5, "z")
    z.buffer[3] = .nan
    let statistics = NTXent(temperature: 0.1).apply(z, shares: [3], context)
    #expect(statistics.loss.isNaN)
  }
}

/// Queries, keys and a queue; the bounds are those of `NTXentCase` for one row.
struct InfoNCECase: Sendable {
  let q: Map, keys: Map, queue: Map, temperature = 0.2

  init(batch: Int, width: Int, queue length: Int) {
    var draws = Draws(test: "queries \(batch) \(width) \(length)")
    func map(_ n: Int) -> Map { Map(n: n, c: width, draws.normals(n * width).map { Double(Float($0)) }) }
    func unit(_ n: Int) -> Map { ReferenceLayers.normalise(map(n)).map { Double(Float($0)) } }
    q = map(batch)
    keys = unit(batch)
    queue = unit(length)
  }

  func run(threads: Int = 1, _ communicator: any Communicator = SingleProcess()) -> (
    statistics: LossStatistics, gradient: [Float]
  ) {
    let context = Context(threads: threads, communicator: communicator, arena: Arena(reserving: 1 << 26))
    defer { withExtendedLifetime(context) {} }
    let local = positions(of: q.n, rank: communicator.rank, ranks: communicator.size)
    func tensor(_ map: Map, _ rows: Range<Int>) -> Tensor {
      let result = context.arena.tensor(n: rows.count, c: map.c)
      for (i, value) in rows.flatMap(map.row).enumerated() { result.buffer[i] = Float(value) }
      return result
    }
    let dq = tensor(q, local)
    let statistics = InfoNCE(temperature: Float(temperature)).apply(
      dq, keys: tensor(keys, local), queue: tensor(queue, 0..<queue.n), count: q.n, context)
    var gradient = [Float](repeating: 0, count: q.values.count)
    for (i, value) in dq.buffer.enumerated() { gradient[local.lowerBound * q.c + i] = value }
    return (statistics, gradient)
  }

  func expect(_ statistics: LossStatistics, _ gradient: [Float], _ what: String) {
    let loss = ReferenceLosses.infoNCE(q, keys: keys, queue: queue, temperature: temperature)
    let delta = Double(q.c + 4) * roundoff / temperature
    let found = statistics.loss / statistics.rows
    #expect(statistics.rows == Double(q.n))
    #expect(abs(found - loss) <= 2 * delta + 8 * roundoff * (1 + loss), "\(what): loss \(found) for \(loss)")
    let error = 2 * delta + Double(queue.n + 10) * roundoff
    let bound = q.values.indices.map { i in
      6 * error / temperature / Double(q.n) / q.row(i / q.c).reduce(0) { $0 + $1 * $1 }.squareRoot()
    }
    let expected = ReferenceLosses.infoNCEGradient(q, keys: keys, queue: queue, temperature: temperature).values
    expectClose(gradient, expected, within: bound, what)
  }
}

@Suite struct InfoNCETests {
  @Test(arguments: [(1, 3, 1), (5, 16, 7), (70, 17, 200), (33, 40, 65)]) func equalsPaper(shape: (Int, Int, Int)) {
    let test = InfoNCECase(batch: shape.0, width: shape.1, queue: shape.2)
    let (statistics, gradient) = test.run()
    test.expect(statistics, gradient, "\(shape)")
  }

  @Test(arguments: [1, 2, 3, 4]) func ranksEqualPaper(ranks: Int) {
    let test = InfoNCECase(batch: 7, width: 17, queue: 30)
    let runs = Ranks.run(ranks) { test.run($0) }
    for run in runs { #expect(run.statistics == runs[0].statistics) }
    test.expect(runs[0].statistics, sum(runs.map(\.gradient)), "\(ranks) ranks")
  }

  @Test(arguments: [0, 1, 100]) func identicalEmbeddings(length: Int) {
    let context = Context(arena: Arena(reserving: 1 << 24))
    defer { withExtendedLifetime(context) {} }
    let q = context.arena.normal(n: 3, c: 8, "q")
    for i in q.buffer.indices { q.buffer[i] = q.buffer[i % 8] }
    let keys = context.arena.copy(q)
    let queue = context.arena.tensor(n: length, c: 8)
    L2Normalise.forward(keys, into: keys, norms: nil, context)
    for i in queue.buffer.indices { queue.buffer[i] = keys.buffer[i % 8] }
    let statistics = InfoNCE(temperature: 0.07).apply(q, keys: keys, queue: queue, count: 3, context)
    #expect(abs(statistics.loss / statistics.rows - log(Double(length + 1))) < 1e-5)
    #expect(q.buffer.allSatisfy { abs($0) < 1e-5 })
  }

  @Test func queueMayBePermuted() {
    let test = InfoNCECase(batch: 5, width: 16, queue: 40)
    let one = test.run()
    var moved = test.queue
    moved.values = Array(test.queue.values[160...] + test.queue.values[..<160])
    let other = InfoNCECase(test, queue: moved).run()
    test.expect(other.statistics, other.gradient, "moved queue")
    #expect(other.statistics.correct == one.statistics.correct)
  }

  @Test func threadsDoNotChangeABit() {
    let test = InfoNCECase(batch: 130, width: 40, queue: 300)
    let one = test.run()
    for threads in [2, 3] {
      let run = test.run(threads: threads)
      #expect(run.gradient == one.gradient && run.statistics == one.statistics)
    }
  }
}

extension InfoNCECase {
  init(_ other: InfoNCECase, queue: Map) { (q, keys, self.queue) = (other.q, other.keys, queue) }
}
