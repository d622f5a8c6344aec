import Engine
import Foundation
import Randomness
import Ranks
import TestSupport
import Testing

/// Sum over ranks. Each rank's gradient is 0 outside its own rows.
private func sum(_ gradients: [[Float]]) -> [Float] {
  gradients.dropFirst().reduce(gradients[0]) { zip($0, $1).map(+) }
}

private func norms(_ map: Map) -> [Double] { (0..<map.n).map { map.row($0).reduce(0) { $0 + $1 * $1 }.squareRoot() } }

private func tensor(_ map: Map, _ rows: Range<Int>, _ arena: Arena) -> Tensor {
  let result = arena.tensor(n: rows.count, c: map.c)
  for (i, value) in rows.flatMap(map.row).enumerated() { result.buffer[i] = Float(value) }
  return result
}

private func place(_ tensor: Tensor, _ rows: Range<Int>, of map: Map) -> [Float] {
  var all = [Float](repeating: 0, count: map.values.count)
  for (i, value) in tensor.buffer.enumerated() { all[rows.lowerBound * map.c + i] = value }
  return all
}

private func randomMap(_ n: Int, _ width: Int, _ draws: inout Draws) -> Map {
  Map(n: n, c: width, draws.normals(n * width).map { Double(Float($0)) })
}

/// Queries, keys and a trained bank. Bounds are those of `NTXentCase` for one row; for the bank's gradient with the
/// row's share of the probability instead of one.
private struct AdversaryCase: Sendable {
  let q: Map, keys: Map, bank: Map, inBatch: Bool, temperature = 0.2, sharper = 0.1

  init(batch: Int, width: Int, bank count: Int, inBatch: Bool) {
    var draws = Draws(test: "adversary \(batch) \(width) \(count)")
    q = randomMap(batch, width, &draws)
    keys = ReferenceLayers.normalise(randomMap(batch, width, &draws)).map { Double(Float($0)) }
    bank = randomMap(count, width, &draws)
    self.inBatch = inBatch
  }

  struct Run {
    var statistics: LossStatistics, inBatch: Double, q: [Float], bank: [Float]
  }

  func run(threads: Int = 1, _ communicator: any Communicator = SingleProcess()) -> Run {
    let context = Context(threads: threads, communicator: communicator, arena: Arena(reserving: 1 << 26))
    let arena = context.arena
    defer { withExtendedLifetime(context) {} }
    let ranks = communicator.size
    let shares = (0..<ranks).map { positions(of: q.n, rank: $0, ranks: ranks).count }
    let local = positions(of: q.n, rank: communicator.rank, ranks: ranks)
    let rows = positions(of: bank.n, rank: communicator.rank, ranks: ranks)
    let dq = tensor(q, local, arena)
    let w = tensor(bank, rows, arena)
    let gradient = arena.tensor(like: w)
    gradient.buffer.update(repeating: 0)
    let candidates = arena.tensor(n: local.count + rows.count, c: q.c)
    candidates.data.update(from: tensor(keys, local, arena).data, count: local.count * q.c)
    let unit = candidates.images(local.count..<candidates.n)
    let norms = arena.array(of: Float.self, count: max(1, rows.count))
    L2Normalise.forward(w, into: unit, norms: norms.baseAddress!, context)
    let targets = arena.array(of: Int32.self, count: q.n)
    for i in 0..<q.n { targets[i] = local.contains(i) ? Int32(i - local.lowerBound) : -1 }
    let queries = GatheredQueries(dq, shares: shares, in: arena, context)
    let (statistics, mass) = SpreadInfoNCE(temperature: Float(temperature)).apply(
      dq, queries, .init(candidates, keys: local.count, otherKeys: inBatch, targets: targets),
      adversary: .init(temperature: Float(sharper), gradient: gradient), context)
    L2Normalise.backward(gradient, unit: unit, norms: norms.baseAddress!, context)
    return Run(statistics: statistics, inBatch: mass, q: place(dq, local, of: q), bank: place(gradient, rows, of: bank))
  }

  func expect(_ runs: [Run], _ what: String) {
    let first = runs[0]
    let batch = Double(q.n)
    let candidates = Double(bank.n + q.n)
    for run in runs { #expect(run.statistics == first.statistics && run.inBatch == first.inBatch, "\(what)") }
    #expect(first.statistics.rows == batch)
    let loss = ReferenceLosses.adCo(q, keys: keys, bank: bank, inBatch: inBatch, temperature: temperature)
    let delta = Double(q.c + 4) * roundoff / temperature
    let found = first.statistics.loss / batch
    #expect(abs(found - loss) <= 2 * delta + 8 * roundoff * (1 + loss), "\(what): loss \(found) for \(loss)")
    let slopes = ReferenceLosses.adCoGradient(q, keys: keys, bank: bank, inBatch: inBatch, temperature: temperature)
    #expect(abs(first.inBatch / batch - slopes.inBatch) <= 4 * delta + 8 * roundoff)
    let error = (2 * delta + (candidates + 10) * roundoff) / temperature / batch
    let length = norms(q)
    expectClose(
      sum(runs.map(\.q)), slopes.q.values, within: q.values.indices.map { 6 * error / length[$0 / q.c] },
      "\(what), queries")
    let sharp = ReferenceLosses.adCoGradient(q, keys: keys, bank: bank, inBatch: inBatch, temperature: sharper)
    let sharpDelta = Double(q.c + 4) * roundoff / sharper
    let lengths = norms(bank)
    let bound = bank.values.indices.map { i in
      6 * (2 * sharpDelta + (candidates + 10) * roundoff) * sharp.mass[i / q.c] / sharper / batch / lengths[i / q.c]
    }
    expectClose(sum(runs.map(\.bank)), sharp.bank.values, within: bound, "\(what), bank")
  }
}

@Suite struct SpreadInfoNCETests {
  @Test(arguments: [(2, 3, 1), (5, 16, 7), (70, 17, 200)], [true, false]) func equalsPaper(
    shape: (Int, Int, Int), inBatch: Bool
  ) {
    let test = AdversaryCase(batch: shape.0, width: shape.1, bank: shape.2, inBatch: inBatch)
    test.expect([test.run()], "\(shape) \(inBatch)")
  }

  @Test(arguments: [1, 2, 3, 4], [true, false]) func ranksEqualPaper(ranks: Int, inBatch: Bool) {
    let test = AdversaryCase(batch: 7, width: 17, bank: 30, inBatch: inBatch)
    test.expect(Ranks.run(ranks) { test.run($0) }, "\(ranks) ranks \(inBatch)")
  }

  /// Ranks without queries, and ranks without rows.
  @Test func emptyRanks() {
    let test = AdversaryCase(batch: 2, width: 5, bank: 3, inBatch: true)
    test.expect(Ranks.run(4) { test.run($0) }, "2 queries and 3 rows on 4 ranks")
  }

  @Test func gradientsAreTheDifferences() {
    let test = AdversaryCase(batch: 3, width: 4, bank: 5, inBatch: true)
    let t = test.sharper
    expectGradient(
      of: { [ReferenceLosses.adCo(test.q, keys: test.keys, bank: Map(n: 5, c: 4, $0), inBatch: true, temperature: t)] },
      at: test.bank.values,
      analytic: { r in
        let slope = ReferenceLosses.adCoGradient(
          test.q, keys: test.keys, bank: test.bank, inBatch: true, temperature: t
        ).bank
        return slope.values.map { $0 * r[0] }
      }, "bank")
    expectGradient(
      of: {
        [ReferenceLosses.adCo(Map(n: 3, c: 4, $0), keys: test.keys, bank: test.bank, inBatch: true, temperature: t)]
      },
      at: test.q.values,
      analytic: { r in
        let slope = ReferenceLosses.adCoGradient(
          test.q, keys: test.keys, bank: test.bank, inBatch: true, temperature: t
        ).q
        return slope.values.map { $0 * r[0] }
      }, "queries")
  }

  /// Control: without the other ranks' parts, the error of the queries' gradient is at least ten times the bound.
  @Test(arguments: [2, 3]) func unsummedGatherMissesTheBound(ranks: Int) {
    let test = AdversaryCase(batch: 7, width: 17, bank: 30, inBatch: true)
    let runs = Ranks.run(ranks, silent: .gatheredGradient) { test.run($0) }
    let expected = ReferenceLosses.adCoGradient(
      test.q, keys: test.keys, bank: test.bank, inBatch: true, temperature: test.temperature)
    #expect(relativeError(sum(runs.map(\.q)).map(Double.init), expected.q.values) > 1e-2)
  }

  @Test(arguments: [1, 100], [true, false]) func identicalEmbeddings(count: Int, inBatch: Bool) {
    var test = AdversaryCase(batch: 3, width: 8, bank: count, inBatch: inBatch)
    let row = test.q.row(0)
    let unit = ReferenceLayers.normalise(test.q).row(0).map { Double(Float($0)) }
    func repeated(_ row: [Double], _ n: Int) -> Map { Map(n: n, c: 8, (0..<n).flatMap { _ in row }) }
    test = AdversaryCase(test, q: repeated(row, 3), keys: repeated(unit, 3), bank: repeated(unit, count))
    let run = test.run()
    #expect(abs(run.statistics.loss / 3 - log(Double(count + (inBatch ? 3 : 1)))) < 1e-5)
    // All candidates are equal, so the queries have no gradient; the bank's rows get theirs from the queries alone.
    #expect(run.q.allSatisfy { abs($0) < 1e-5 })
    #expect(abs(run.inBatch / 3 - (inBatch ? 2 / Double(count + 3) : 0)) < 1e-5)
  }

  @Test func threadsDoNotChangeABit() {
    let test = AdversaryCase(batch: 70, width: 40, bank: 300, inBatch: true)
    let one = test.run()
    for threads in [2, 3] {
      let run = test.run(threads: threads)
      #expect(run.q == one.q && run.bank == one.bank && run.statistics == one.statistics)
    }
  }
}

extension AdversaryCase {
  fileprivate init(_ other: AdversaryCase, q: Map, keys: Map, bank: Map) {
    self.q = q
    self.keys = keys
    self.bank = bank
    inBatch = other.inBatch
  }
}

/// Queries and rows that were drawn from a bank, with repetitions.
private struct DrawnCase: Sendable {
  let q: Map, bank: Map, rows: [[Int]], loss: DrawnContrast.Loss, temperature = 0.2

  init(batch: Int, width: Int, bank count: Int, negatives: Int, _ loss: DrawnContrast.Loss) {
    var draws = Draws(test: "drawn \(batch) \(width) \(count) \(negatives)")
    q = randomMap(batch, width, &draws)
    bank = randomMap(count, width, &draws).map { Double(Float($0 / Double(width).squareRoot())) }
    rows = (0..<batch).map { i in [i % count] + (0..<negatives).map { _ in draws.integer(below: count) } }
    self.loss = loss
  }

  struct Run { var statistics: LossStatistics, z: Float, q: [Float] }

  /// - z: the estimate of Z; 0 for none.
  func run(z: Float = 0, threads: Int = 1, _ communicator: any Communicator = SingleProcess()) -> Run {
    let context = Context(threads: threads, communicator: communicator, arena: Arena(reserving: 1 << 26))
    let arena = context.arena
    defer { withExtendedLifetime(context) {} }
    let ranks = communicator.size
    let shares = (0..<ranks).map { positions(of: q.n, rank: $0, ranks: ranks).count }
    let local = positions(of: q.n, rank: communicator.rank, ranks: ranks)
    let own = positions(of: bank.n, rank: communicator.rank, ranks: ranks)
    let dq = tensor(q, local, arena)
    let queries = GatheredQueries(dq, shares: shares, in: arena, context)
    let drawn = arena.array(of: Int64.self, count: rows.count * rows[0].count)
    for (i, row) in rows.joined().enumerated() { drawn[i] = Int64(row) }
    let (statistics, found) = DrawnContrast(loss, temperature: Float(temperature), images: bank.n).apply(
      dq, queries, .init(tensor(bank, own, arena), rows: own), drawn: drawn.baseAddress!, count: rows[0].count, z: z,
      context)
    return Run(statistics: statistics, z: found, q: place(dq, local, of: q))
  }

  func expect(_ runs: [Run], z given: Double? = nil, _ what: String) {
    let z = loss == .nce ? given ?? ReferenceLosses.partition(q, bank: bank, rows, temperature: temperature) : nil
    for run in runs { #expect(run.statistics == runs[0].statistics && run.z == runs[0].z, "\(what)") }
    // Rows of the bank have a norm below two.
    let delta = 2 * Double(q.c + 4) * roundoff / temperature + 4 * roundoff
    let batch = Double(q.n)
    if let z { #expect(abs(Double(runs[0].z) - z) <= 2 * delta * z, "\(what): Z \(runs[0].z) for \(z)") }
    let slopes = ReferenceLosses.drawnGradient(q, bank: bank, rows, z: z, temperature: temperature)
    let expected = ReferenceLosses.drawn(q, bank: bank, rows, z: z, temperature: temperature)
    let found = runs[0].statistics.loss / batch
    #expect(
      abs(found - expected) <= 4 * delta * slopes.slopes.max()! + 8 * roundoff * (1 + expected),
      "\(what): loss \(found) for \(expected)")
    let length = norms(q)
    let bound = q.values.indices.map { i in
      4 * slopes.slopes[i / q.c] * (4 * delta + Double(rows[0].count + 20) * roundoff) / temperature / batch
        / length[i / q.c]
    }
    expectClose(sum(runs.map(\.q)), slopes.q.values, within: bound, what)
  }
}

@Suite struct DrawnContrastTests {
  @Test(arguments: [(1, 3, 2, 1), (5, 16, 7, 20), (70, 17, 200, 30)], DrawnContrast.Loss.allCases)
  func equalsPaper(shape: (Int, Int, Int, Int), loss: DrawnContrast.Loss) {
    let test = DrawnCase(batch: shape.0, width: shape.1, bank: shape.2, negatives: shape.3, loss)
    test.expect([test.run()], "\(shape) \(loss)")
  }

  @Test(arguments: [1, 2, 3, 4], DrawnContrast.Loss.allCases) func ranksEqualPaper(ranks: Int, loss: DrawnContrast.Loss)
  {
    let test = DrawnCase(batch: 7, width: 17, bank: 11, negatives: 13, loss)
    test.expect(Ranks.run(ranks) { test.run($0) }, "\(ranks) ranks \(loss)")
  }

  @Test func emptyRanks() {
    let test = DrawnCase(batch: 2, width: 5, bank: 3, negatives: 4, .nce)
    test.expect(Ranks.run(4) { test.run($0) }, "2 queries and 3 rows on 4 ranks")
  }

  /// A given Z is not estimated again.
  @Test func aFrozenZStays() {
    let test = DrawnCase(batch: 5, width: 16, bank: 9, negatives: 6, .nce)
    let run = test.run(z: 321)
    #expect(run.z == 321)
    test.expect([run], z: 321, "Z of 321")
  }

  @Test(arguments: DrawnContrast.Loss.allCases) func gradientsAreTheDifferences(loss: DrawnContrast.Loss) {
    let test = DrawnCase(batch: 3, width: 4, bank: 5, negatives: 6, loss)
    let z = loss == .nce ? 7.0 : nil
    let t = test.temperature
    expectGradient(
      of: { [ReferenceLosses.drawn(Map(n: 3, c: 4, $0), bank: test.bank, test.rows, z: z, temperature: t)] },
      at: test.q.values,
      analytic: { r in
        ReferenceLosses.drawnGradient(test.q, bank: test.bank, test.rows, z: z, temperature: t).q.values.map {
          $0 * r[0]
        }
      }, "\(loss)")
  }

  /// Softmax: ln(K + 1). NCE, whose Z makes P = 1/N of all: ln(K + 1) + K·ln(1 + 1/K).
  @Test(arguments: [1, 40]) func identicalEmbeddings(negatives: Int) {
    for loss in DrawnContrast.Loss.allCases {
      var test = DrawnCase(batch: 3, width: 8, bank: 9, negatives: negatives, loss)
      let row = test.q.row(0)
      let k = Double(negatives)
      test = DrawnCase(
        test, q: Map(n: 3, c: 8, row + row + row), bank: Map(n: 9, c: 8, (0..<9).flatMap { _ in row.map { $0 / 3 } }))
      let run = test.run()
      let chance = log(k + 1) + (loss == .nce ? k * log1p(1 / k) : 0)
      #expect(
        abs(run.statistics.loss / 3 - chance) < 2e-5 * (1 + chance), "\(loss) \(run.statistics.loss / 3) for \(chance)")
    }
  }

  @Test func threadsDoNotChangeABit() {
    let test = DrawnCase(batch: 70, width: 40, bank: 50, negatives: 60, .nce)
    let one = test.run()
    for threads in [2, 3] {
      let run = test.run(threads: threads)
      #expect(run.q == one.q && run.z == one.z && run.statistics == one.statistics)
    }
  }
}

extension DrawnCase {
  fileprivate init(_ other: DrawnCase, q: Map, bank: Map) {
    self.q = q
    self.bank = bank
    rows = other.rows
    loss = other.loss
  }
}
