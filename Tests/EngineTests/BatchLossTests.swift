import Engine
import Foundation
import Randomness
import Ranks
import TestSupport
import Testing

/// Result of a loss on one rank: the statistics, and the gradients of all matrices, 0 in other ranks' rows.
private struct Outcome: Sendable {
  var statistics: LossStatistics
  var gradients: [[Float]]
}

/// Compares a loss on several ranks with its reference implementation: the value, and the gradients with central
/// differences of the reference.
private struct LossCase: Sendable {
  /// Images in the batch, and the matrices by which the loss is differentiated, all first views, then all second views.
  let batch: Int
  let inputs: [Map]
  /// The reference.
  let paper: @Sendable ([Map]) -> Double
  /// The engine's loss on this rank's rows.
  let engine: @Sendable ([Tensor], _ shares: [Int], Context) -> LossStatistics

  func run(threads: Int = 1, _ communicator: any Communicator = SingleProcess()) -> Outcome {
    let context = Context(threads: threads, communicator: communicator, arena: Arena(reserving: 1 << 26))
    defer { withExtendedLifetime(context) {} }
    let shares = (0..<communicator.size).map { positions(of: batch, rank: $0, ranks: communicator.size).count }
    let local = positions(of: batch, rank: communicator.rank, ranks: communicator.size)
    let rows = inputs.map { input in (0..<input.n / batch).flatMap { view in local.map { view * batch + $0 } } }
    let tensors = zip(inputs, rows).map { input, rows in
      let tensor = context.arena.tensor(n: rows.count, c: input.c)
      for (i, value) in rows.flatMap(input.row).enumerated() { tensor.buffer[i] = Float(value) }
      return tensor
    }
    let statistics = engine(tensors, shares, context)
    let gradients = inputs.indices.map { k in
      var whole = [Float](repeating: 0, count: inputs[k].values.count)
      for (i, row) in rows[k].enumerated() {
        for j in 0..<inputs[k].c { whole[row * inputs[k].c + j] = tensors[k].buffer[i * inputs[k].c + j] }
      }
      return whole
    }
    return Outcome(statistics: statistics, gradients: gradients)
  }

  /// - bound: bounds of the loss, and of every gradient times the norm of its row.
  func expect(_ runs: [Outcome], within bound: (loss: Double, gradient: Double), _ what: String) {
    for run in runs { #expect(run.statistics.loss == runs[0].statistics.loss && run.statistics.rows == Double(batch)) }
    let found = runs[0].statistics.loss / runs[0].statistics.rows
    let loss = paper(inputs)
    #expect(abs(found - loss) <= bound.loss, "\(what): loss \(found) for \(loss)")
    for k in inputs.indices {
      let sum = runs.dropFirst().reduce(runs[0].gradients[k]) { zip($0, $1.gradients[k]).map(+) }
      let expected = differences(k)
      let bounds = expected.indices.map { i in
        bound.gradient / inputs[k].row(i / inputs[k].c).reduce(0) { $0 + $1 * $1 }.squareRoot()
      }
      expectClose(sum, expected, within: bounds, "\(what), gradient of input \(k)")
    }
  }

  private func differences(_ k: Int) -> [Double] {
    let h = 1e-5
    return inputs[k].values.indices.map { i in
      var up = inputs
      var down = inputs
      up[k].values[i] += h
      down[k].values[i] -= h
      return (paper(up) - paper(down)) / (2 * h)
    }
  }
}

private func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }

private func map(_ name: String, _ n: Int, _ c: Int) -> Map {
  var draws = Draws(test: name)
  return Map(n: n, c: c, draws.normals(n * c).map { Double(Float($0)) })
}

/// BYOL, arXiv:2006.07733, eq. 2, both ways.
@Suite struct CosineRegressionTests {
  private func test(batch: Int, width d: Int) -> LossCase {
    let targets = map("targets \(batch)", 2 * batch, d)
    return LossCase(
      batch: batch, inputs: [map("predictions \(batch)", 2 * batch, d)],
      paper: { inputs in
        let p = ReferenceLayers.normalise(inputs[0])
        let z = ReferenceLayers.normalise(targets)
        var sum = 0.0
        for i in 0..<batch {
          for (a, b) in [(p.row(i), z.row(i + batch)), (p.row(i + batch), z.row(i))] {
            sum += zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
          }
        }
        return sum / Double(batch)
      },
      engine: { tensors, shares, context in
        let rank = context.communicator.rank
        let first = shares[..<rank].reduce(0, +)
        let n = shares[rank]
        let z = context.arena.tensor(n: 2 * n, c: d)
        for (i, row) in (Array(first..<first + n) + Array(batch + first..<batch + first + n)).enumerated() {
          for j in 0..<d { z.buffer[i * d + j] = Float(targets.row(row)[j]) }
        }
        return CosineRegression().apply(tensors[0], targets: z, count: batch, context)
      })
  }

  @Test(arguments: [1, 2, 3, 4], [2, 7]) func equalsPaper(ranks: Int, batch: Int) {
    let test = test(batch: batch, width: 9)
    // A cosine of unit rows has an error of (D+4)·u; so has the gradient, with slope 2/B and twice through the
    // normalisation.
    let u = 13 * roundoff
    test.expect(Ranks.run(ranks) { test.run($0) }, within: (8 * u, 8 * u / Double(batch)), "\(ranks) ranks")
  }

  /// The loss is 0 for a perfect prediction, and 4 per direction for its opposite.
  @Test func closedForms() {
    for (sign, loss) in [(Float(1), 0.0), (-1, 8)] {
      let context = Context(arena: Arena(reserving: 1 << 22))
      defer { withExtendedLifetime(context) {} }
      let z = context.arena.normal(n: 6, c: 8, "z")
      let p = context.arena.tensor(like: z)
      for row in 0..<6 { for i in 0..<8 { p.buffer[row * 8 + i] = 3 * sign * z.buffer[(row + 3) % 6 * 8 + i] } }
      let statistics = CosineRegression().apply(p, targets: z, count: 3, context)
      #expect(abs(statistics.loss / statistics.rows - loss) < 1e-5)
      #expect(abs(statistics.positive / statistics.rows - Double(sign)) < 1e-6)
    }
  }
}

/// The end-to-end mechanism of arXiv:1911.05722: InfoNCE with the batch's keys, both sides differentiated.
@Suite struct BatchInfoNCETests {
  private let temperature = 0.2

  private func test(batch: Int, width: Int) -> LossCase {
    let temperature = temperature
    return LossCase(
      batch: batch, inputs: [map("queries \(batch)", batch, width), map("keys \(batch)", batch, width)],
      paper: { inputs in
        let q = ReferenceLayers.normalise(inputs[0])
        let k = ReferenceLayers.normalise(inputs[1])
        var sum = 0.0
        for i in 0..<batch {
          let logits = (0..<batch).map { dot(q.row(i), k.row($0)) / temperature }
          sum -= log(exp(logits[i]) / logits.reduce(0) { $0 + exp($1) })
        }
        return sum / Double(batch)
      },
      engine: { tensors, shares, context in
        BatchInfoNCE(temperature: Float(temperature)).apply(tensors[0], keys: tensors[1], shares: shares, context)
      })
  }

  private func bound(_ batch: Int, _ width: Int) -> (Double, Double) {
    // As in `InfoNCECase`, but a key's gradient is a sum over B queries.
    let delta = Double(width + 4) * roundoff / temperature
    return (2 * delta + 64 * roundoff, 6 * (2 * delta + Double(batch + 10) * roundoff) / temperature)
  }

  @Test(arguments: [1, 2, 3, 4], [3, 9]) func equalsPaper(ranks: Int, batch: Int) {
    let test = test(batch: batch, width: 11)
    test.expect(Ranks.run(ranks) { test.run($0) }, within: bound(batch, 11), "\(ranks) ranks")
  }

  /// Control: the gradient of the keys is not summed over ranks.
  @Test func unsummedGatherMissesTheBound() {
    let test = test(batch: 9, width: 11)
    let whole = test.run()
    let bound = bound(9, 11).1
    let parts = Ranks.run(3, silent: .gatheredGradient) { test.run($0) }
    let sum = parts.dropFirst().reduce(parts[0].gradients[1]) { zip($0, $1.gradients[1]).map(+) }
    #expect(zip(sum, whole.gradients[1]).contains { abs(Double($0 - $1)) > 10 * bound })
  }

  @Test func identicalEmbeddings() {
    let context = Context(arena: Arena(reserving: 1 << 22))
    defer { withExtendedLifetime(context) {} }
    let q = context.arena.normal(n: 6, c: 8, "q")
    for i in q.buffer.indices { q.buffer[i] = q.buffer[i % 8] }
    let statistics = BatchInfoNCE(temperature: 0.1).apply(q, keys: context.arena.copy(q), shares: [6], context)
    #expect(abs(statistics.loss / statistics.rows - log(6)) < 1e-5)
  }
}

/// Sinkhorn's assignment and the swapped prediction, arXiv:2006.09882.
@Suite struct SwappedPredictionTests {
  private let k = 7

  /// The published loop: columns and rows of exp(S/ε) scaled in turn.
  private static func scaled(_ scores: Map, epsilon: Double, iterations: Int) -> Map {
    var q = scores.map { exp($0 / epsilon) }
    for _ in 0..<iterations {
      for j in 0..<q.c {
        let sum = (0..<q.n).reduce(0) { $0 + q.values[$1 * q.c + j] }
        for i in 0..<q.n { q.values[i * q.c + j] /= sum }
      }
      for i in 0..<q.n {
        let sum = q.row(i).reduce(0, +)
        for j in 0..<q.c { q.values[i * q.c + j] /= sum }
      }
    }
    return q
  }

  private func assign(_ scores: Map, _ sinkhorn: Sinkhorn, ranks: Int) -> [Float] {
    let runs = Ranks.run(ranks) { communicator -> [Float] in
      let context = Context(communicator: communicator, arena: Arena(reserving: 1 << 24))
      defer { withExtendedLifetime(context) {} }
      let local = positions(of: scores.n, rank: communicator.rank, ranks: ranks)
      let s = context.arena.tensor(n: local.count, c: scores.c)
      let q = context.arena.tensor(like: s)
      for (i, value) in local.flatMap(scores.row).enumerated() { s.buffer[i] = Float(value) }
      sinkhorn.assign(s, into: q, context)
      return Array(q.buffer)
    }
    return runs.flatMap { $0 }
  }

  @Test(arguments: [1, 2, 3, 4]) func assignsAsPublished(ranks: Int) {
    let scores = map("scores", 10, 70)
    let expected = Self.scaled(scores, epsilon: 0.5, iterations: 3)
    // Logarithms are in Double, so only the result is rounded.
    expectClose(
      assign(scores, Sinkhorn(epsilon: 0.5), ranks: ranks), expected.values,
      within: expected.values.map { 4 * roundoff * $0 + 1e-12 }, "\(ranks) ranks")
  }

  /// 3 rows on 4 ranks; and an ε at which exp(S/ε) overflows.
  @Test func staysSafe() {
    let scores = map("sharp", 3, k)
    let found = assign(scores, Sinkhorn(epsilon: 1e-3, iterations: 10), ranks: 4)
    #expect(found.allSatisfy { $0.isFinite })
    for row in 0..<3 { #expect(abs(found[row * k..<(row + 1) * k].reduce(0, +) - 1) < 1e-5) }
    #expect(scores.values.max()! / 1e-3 > 709, "exp would not overflow: the test tests nothing")
  }

  @Test func manyIterationsShareOutEvenly() {
    let found = assign(map("even", 21, k), Sinkhorn(epsilon: 0.5, iterations: 300), ranks: 2)
    for j in 0..<k { #expect(abs((0..<21).reduce(0) { $0 + found[$1 * k + j] } - 3) < 1e-3) }
  }

  /// Two assigned crops and two others, with codes given by the test.
  private func test(batch: Int, crops: Int) -> LossCase {
    let k = k
    let temperature = 0.3
    let codes = Self.scaled(map("codes", 2 * batch, k), epsilon: 0.5, iterations: 3)
    return LossCase(
      batch: batch, inputs: [map("predictions \(crops)", crops * batch, k)],
      paper: { inputs in
        var sum = 0.0
        for a in 0..<2 {
          for v in 0..<crops where v != a {
            for i in 0..<batch {
              let s = inputs[0].row(v * batch + i)
              let total = s.reduce(0) { $0 + exp($1 / temperature) }
              for j in 0..<k {
                sum -= codes.row(a * batch + i)[j] * log(exp(s[j] / temperature) / total)
              }
            }
          }
        }
        return sum / Double(2 * (crops - 1) * batch)
      },
      engine: { tensors, shares, context in
        let rank = context.communicator.rank
        let first = shares[..<rank].reduce(0, +)
        let n = shares[rank]
        let q = context.arena.tensor(n: 2 * n, c: k)
        for (i, row) in (Array(first..<first + n) + Array(batch + first..<batch + first + n)).enumerated() {
          for j in 0..<k { q.buffer[i * k + j] = Float(codes.row(row)[j]) }
        }
        return SwappedPrediction(temperature: Float(temperature)).apply(
          tensors[0], codes: q, images: n, count: batch, context)
      })
  }

  @Test(arguments: [1, 2, 3, 4], [2, 4]) func equalsPaper(ranks: Int, crops: Int) {
    let test = test(batch: 3, crops: crops)
    // Sums in Double of scores over τ, at most 4/0.3 each, so the codes and the result are rounded. Norms of rows are
    // below 6.
    test.expect(Ranks.run(ranks) { test.run($0) }, within: (64 * roundoff, 6 * 64 * roundoff), "\(ranks) ranks")
  }

  /// With equal scores the loss is that of guessing, ln K.
  @Test func guessing() {
    let context = Context(arena: Arena(reserving: 1 << 22))
    defer { withExtendedLifetime(context) {} }
    let scores = context.arena.tensor(n: 12, c: k)
    let codes = context.arena.tensor(n: 6, c: k)
    scores.buffer.update(repeating: 0.5)
    codes.buffer.update(repeating: 1 / Float(k))
    let statistics = SwappedPrediction(temperature: 0.1).apply(scores, codes: codes, images: 3, count: 3, context)
    #expect(abs(statistics.loss / statistics.rows - log(Double(k))) < 1e-6)
  }
}

/// Views in separate BN batches give the same as one pass for each view, including running statistics.
@Suite struct ViewBatchesTests {
  @Test(arguments: [NormalisationGroups.global, .group(images: 3)]) func equalsOnePassEach(groups: NormalisationGroups)
  {
    var parameters = ParameterLayout()
    var statistics = ParameterLayout()
    let norm = BatchNorm(&parameters, &statistics, "bn", channels: 5)
    func run(together: Bool) -> (output: [Float], statistics: [Float], gradients: [Float], dx: [Float]) {
      let context = Context(arena: Arena(reserving: 1 << 24))
      let state = NetworkState(parameters, statistics)
      defer { withExtendedLifetime(context) {} }
      state.initialise(seed: 3)
      let gradients = ParameterSlab(parameters)
      let arena = context.arena
      let x = arena.normal(n: 12, h: 3, w: 3, c: 5, "views", deviation: 2, mean: 1)
      let dy = arena.normal(n: 12, h: 3, w: 3, c: 5, "cotangent")
      let y = arena.tensor(like: x)
      for part in together ? [0..<12] : [0..<6, 6..<12] {
        let batches = BatchGroups(
          groups, batch: 6, positions: 0..<6, views: together ? 2 : 1, shared: false, ranks: 1, in: arena)
        let pass = Pass(context, state, .train, batches, gradients: gradients)
        let tape = norm.forward(x.images(part), relu: true, into: y.images(part), pass)
        norm.backward(dy.images(part), relu: true, x: x.images(part), tape, pass)
      }
      return (Array(y.buffer), Array(state.statistics.buffer), Array(gradients.buffer), Array(x.buffer))
    }
    let one = run(together: true)
    let two = run(together: false)
    // The shift of the sums differs, so means and deviations of up to 8 differ by a few roundings.
    func expectSame(_ a: [Float], _ b: [Float], _ what: String) {
      expectClose(a, b.map(Double.init), within: b.map { _ in 128 * roundoff * 8 }, what)
    }
    expectSame(one.output, two.output, "output")
    expectSame(one.statistics, two.statistics, "running statistics")
    expectSame(one.gradients, two.gradients, "gradients of scale and shift")
    expectSame(one.dx, two.dx, "gradient of the input")
  }
}
