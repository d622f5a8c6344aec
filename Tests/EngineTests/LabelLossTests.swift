import Engine
import Foundation
import Randomness
import Ranks
import TestSupport
import Testing

/// Scores of a batch, and a loss of them on some ranks against its formula.
///
/// Bounds: the engine computes in Double and rounds the gradient to Float once. Differences of the formula have an
/// error of h⁴/30 of its fifth derivative and of 1.5·ε·|L|/h, both far below 1e-10 at h = 1e-3.
private struct ScoreCase: Sendable {
  struct Outcome: Sendable {
    var sums: ClassificationSums
    /// Of the whole batch, 0 in other ranks' rows.
    var gradient: [Float]
  }

  /// (N, K)
  let scores: Map
  /// By image; −1 for none.
  let labels: [Int]
  /// The formula.
  let formula: @Sendable (Map) -> Double
  /// The engine's loss of the rows of a range of the batch.
  let engine: @Sendable (Tensor, Range<Int>, Context) -> ClassificationSums

  func run(threads: Int = 1, parts: Int = 1, _ communicator: any Communicator = SingleProcess()) -> Outcome {
    let context = Context(threads: threads, communicator: communicator, arena: Arena(reserving: 1 << 24))
    defer { withExtendedLifetime(context) {} }
    let local = positions(of: scores.n, rank: communicator.rank, ranks: communicator.size)
    var outcome = Outcome(sums: ClassificationSums(), gradient: Array(repeating: 0, count: scores.values.count))
    for part in 0..<parts {
      let range = positions(of: local.count, rank: part, ranks: parts)
      let rows = local.lowerBound + range.lowerBound..<local.lowerBound + range.upperBound
      let s = context.arena.tensor(n: rows.count, c: scores.c)
      for (i, value) in rows.flatMap(scores.row).enumerated() { s.buffer[i] = Float(value) }
      outcome.sums.add(engine(s, rows, context))
      for (i, value) in s.buffer.enumerated() { outcome.gradient[rows.lowerBound * scores.c + i] = value }
    }
    return outcome
  }

  /// The formula's gradient by differences of four points.
  var differences: [Double] {
    let h = 1e-3
    return scores.values.indices.map { i in
      func value(_ shift: Double) -> Double {
        var moved = scores
        moved.values[i] += shift
        return formula(moved)
      }
      return (value(-2 * h) - 8 * value(-h) + 8 * value(h) - value(2 * h)) / (12 * h)
    }
  }

  func expect(_ runs: [Outcome], _ what: String) {
    for run in runs { #expect(run.sums == runs[0].sums && run.sums.rows == Double(scores.n)) }
    let loss = formula(scores)
    #expect(abs(runs[0].sums.loss - loss) <= 1e-12 * (1 + loss), "\(what): loss \(runs[0].sums.loss) for \(loss)")
    let sum = runs.dropFirst().reduce(runs[0].gradient) { zip($0, $1.gradient).map(+) }
    let expected = differences
    expectClose(sum, expected, within: expected.map { roundoff * abs($0) + 1e-10 }, what)
  }
}

private func draw(_ name: String, _ n: Int, _ c: Int) -> Map {
  var draws = Draws(test: name)
  return Map(n: n, c: c, draws.normals(n * c, deviation: 1.5).map { Double(Float($0)) })
}

@Suite struct SoftmaxCrossEntropyTests {
  private static let weights = [1, 0.5, 3, 0.25, 2]

  /// - Parameter divisor: what the loss is divided by; nil for the sum of the batch's weights.
  private func test(
    batch: Int, smoothing: Double = 0, weights: [Double]? = nil, divisor: (@Sendable (_ own: Int) -> Double)? = nil
  ) -> ScoreCase {
    let labels = (0..<batch).map { (3 * $0 + 1) % 5 }
    return ScoreCase(
      scores: draw("scores \(batch)", batch, 5), labels: labels,
      formula: { ReferenceLosses.crossEntropy($0, labels: labels, smoothing: smoothing, weights: weights) },
      engine: { scores, rows, context in
        let loss = SoftmaxCrossEntropy(smoothing: smoothing, weights: weights)
        let own = positions(of: batch, rank: context.communicator.rank, ranks: context.communicator.size)
        let total = loss.total(own.map { Int32(labels[$0]) }, count: batch, context)
        return loss.apply(scores, total: divisor?(own.count) ?? total, context) { labels[rows.lowerBound + $0] }
      })
  }

  /// Seven images, and two, are unequal shares of three ranks; of two images some of four ranks have none.
  @Test(arguments: [1, 2, 3, 4], [2, 7]) func equalsItsFormula(ranks: Int, batch: Int) {
    for smoothing in [0, 0.1, 0.9] {
      for weights in [nil, Self.weights] {
        let test = test(batch: batch, smoothing: smoothing, weights: weights)
        test.expect(
          Ranks.run(ranks) { test.run($0) }, "\(ranks) ranks, ε \(smoothing), \(weights == nil ? "" : "weights")")
      }
    }
  }

  /// Control: a rank that divides by the number of its own images is far off.
  @Test func localMeansMissTheBound() {
    let test = test(batch: 7, divisor: { Double($0) })
    let sum = Ranks.run(3) { test.run($0) }.map(\.gradient).reduce([Float](repeating: 0, count: 35)) {
      zip($0, $1).map(+)
    }
    let expected = test.differences
    let bound = expected.map { roundoff * abs($0) + 1e-10 }
    #expect(worstRatio(sum.map(Double.init), expected, bound).ratio > 1000)
  }

  @Test func threadsAndPartsDoNotMatter() {
    let test = test(batch: 70, smoothing: 0.1, weights: Self.weights)
    let one = test.run()
    for threads in [2, 3] {
      let run = test.run(threads: threads)
      #expect(run.gradient == one.gradient && run.sums == one.sums)
    }
    let parts = test.run(parts: 3)
    #expect(parts.gradient == one.gradient && abs(parts.sums.loss - one.sums.loss) < 1e-12)
    #expect(parts.sums.rows == 70 && parts.sums.correct == one.sums.correct)
  }

  /// Weights that are all alike, and no smoothing, are the plain loss.
  @Test func equalWeightsAreNone() {
    let plain = test(batch: 7).run()
    let weighted = test(batch: 7, weights: [2, 2, 2, 2, 2]).run()
    #expect(abs(plain.sums.loss - weighted.sums.loss) < 1e-14)
    for (a, b) in zip(plain.gradient, weighted.gradient) { #expect(abs(a - b) <= 2 * abs(a) * Float(roundoff)) }
  }

  /// A batch of such classes alone teaches nothing: its loss is 0, not 0 divided by 0.
  @Test(arguments: [0, 0.1]) func aBatchOfNoWeight(smoothing: Double) {
    let run = test(batch: 2, smoothing: smoothing, weights: [1, 0, 1, 1, 0]).run()
    #expect(run.sums.loss == 0 && run.gradient.allSatisfy { $0 == 0 })
  }

  /// A class of weight 0 does not count, and the gradient of its images is 0.
  @Test func aClassOfNoWeight() {
    let run = test(batch: 7, weights: [1, 0, 1, 1, 1]).run()
    for row in 0..<7 {
      let gradient = run.gradient[row * 5..<row * 5 + 5]
      #expect(gradient.allSatisfy { $0 == 0 } == ((3 * row + 1) % 5 == 1), "\(row)")
    }
  }

  @Test func closedForms() {
    let context = Context(arena: Arena(reserving: 1 << 20))
    defer { withExtendedLifetime(context) {} }
    let loss = SoftmaxCrossEntropy()
    // Scores of a classifier that begins at zero are guesses, of which the first counts.
    let zero = context.arena.tensor(n: 6, c: 3)
    zero.buffer.update(repeating: 0)
    let guess = loss.apply(zero, total: 6, context) { $0 % 3 }
    #expect(abs(guess.loss - log(3)) < 1e-15 && guess.correct == 2 && guess.labelled == 6)
    #expect(abs(zero.buffer[0] + 1 / 9) < 1e-7 && abs(zero.buffer[1] - 1 / 18) < 1e-7)
    // Scores of any size, of which the difference counts.
    for (offset, expected) in [(Float(0), 0.0), (9000, 0), (-9000, 0)] {
      let sure = context.arena.tensor(n: 1, c: 3)
      for (i, value) in [offset, offset + 800, offset - 800].enumerated() { sure.buffer[i] = value }
      let right = loss.apply(sure, total: 1, context) { _ in 1 }
      #expect(right.loss == expected && right.correct == 1 && sure.buffer.allSatisfy { $0 == 0 })
      for (i, value) in [offset, offset + 800, offset - 800].enumerated() { sure.buffer[i] = value }
      let wrong = loss.apply(sure, total: 1, context) { _ in 0 }
      #expect(wrong.loss == 800 && wrong.correct == 0 && Array(sure.buffer) == [-1, 1, 0])
    }
  }

  @Test func notANumberIsNotHidden() {
    let context = Context(arena: Arena(reserving: 1 << 20))
    defer { withExtendedLifetime(context) {} }
    let scores = context.arena.normal(n: 4, c: 3, "scores")
    scores.buffer[5] = .nan
    #expect(SoftmaxCrossEntropy().apply(scores, total: 4, context) { _ in 0 }.loss.isNaN)
  }
}

/// Hinton, Vinyals, Dean 2015, and SimCLR v2, eq. 2 and 3.
@Suite struct DistillationTests {
  private func test(
    batch: Int, temperature: Double = 1, alpha: Double = 1, squared: Bool = false, labels: [Int]? = nil
  ) -> ScoreCase {
    let labels = labels ?? (0..<batch).map { $0 % 3 == 2 ? -1 : (2 * $0 + 1) % 6 }
    let teacher = draw("teacher \(batch)", batch, 6)
    let factor = squared ? temperature * temperature : 1
    return ScoreCase(
      scores: draw("student \(batch)", batch, 6), labels: labels,
      formula: {
        ReferenceLosses.distillation(
          $0, teacher: teacher, labels: labels, temperature: temperature, alpha: alpha, factor: factor)
      },
      engine: { scores, rows, context in
        let t = context.arena.tensor(n: rows.count, c: 6)
        for (i, value) in rows.flatMap(teacher.row).enumerated() { t.buffer[i] = Float(value) }
        let before = t.bits
        let loss = Distillation(temperature: temperature, alpha: alpha, squared: squared)
        let sums = loss.apply(scores, teacher: t, count: batch, context) { labels[rows.lowerBound + $0] }
        #expect(t.bits == before, "no gradient flows to the teacher")
        return sums
      })
  }

  @Test(arguments: [1, 2, 3, 4], [2, 7]) func equalsItsFormula(ranks: Int, batch: Int) {
    for temperature in [0.5, 1, 4] {
      for (alpha, squared) in [(1.0, false), (0.5, false), (0.3, true), (1, true)] {
        let test = test(batch: batch, temperature: temperature, alpha: alpha, squared: squared)
        test.expect(Ranks.run(ranks) { test.run($0) }, "\(ranks) ranks, T \(temperature), α \(alpha), T² \(squared)")
      }
    }
  }

  /// Labels of −1 count in no sum but the teacher's; with α = 1 no label does anything.
  @Test func whatHasNoLabelLearnsFromTheTeacherAlone() {
    let none = Array(repeating: -1, count: 7)
    let some = test(batch: 7, alpha: 0.5).run()
    #expect(some.sums.labelled == 5 && some.sums.rows == 7)
    let unlabelled = test(batch: 7, alpha: 0.5, labels: none)
    unlabelled.expect([unlabelled.run()], "no labels")
    #expect(unlabelled.run().sums.labelled == 0 && unlabelled.run().sums.correct == 0)
    for row in [2, 5] {
      #expect(some.gradient[row * 6..<row * 6 + 6] == unlabelled.run().gradient[row * 6..<row * 6 + 6])
    }
    let alone = test(batch: 7)
    #expect(alone.run().gradient == test(batch: 7, labels: none).run().gradient)
    #expect(alone.run().sums.loss == test(batch: 7, labels: none).run().sums.loss)
  }

  @Test func threadsAndPartsDoNotMatter() {
    let test = test(batch: 70, temperature: 2, alpha: 0.5)
    let one = test.run()
    for threads in [2, 3] {
      let run = test.run(threads: threads)
      #expect(run.gradient == one.gradient && run.sums == one.sums)
    }
    let parts = test.run(parts: 3)
    #expect(parts.gradient == one.gradient && abs(parts.sums.loss - one.sums.loss) < 1e-12)
    #expect(parts.sums.agreeing == one.sums.agreeing && one.sums.agreeing > 5 && one.sums.agreeing < 60)
  }

  /// A student that says what the teacher says has the loss of the teacher's entropy, and no gradient.
  @Test func aStudentThatAgreesIsLeftAlone() {
    let context = Context(arena: Arena(reserving: 1 << 20))
    defer { withExtendedLifetime(context) {} }
    let scores = context.arena.normal(n: 9, c: 6, "both")
    let teacher = context.arena.copy(scores)
    // Scores count up to a constant.
    for i in scores.buffer.indices { scores.buffer[i] += 3 }
    let sums = Distillation(temperature: 2, squared: true).apply(scores, teacher: teacher, count: 9, context) { _ in -1
    }
    #expect(sums.agreeing == 9 && sums.loss > 0.1)
    #expect(scores.buffer.allSatisfy { abs($0) < 1e-6 })
  }

  /// At a high temperature, with the factor T², the gradient is (s − t)/(B·K) for scores of mean 0: Hinton's eq. 4.
  @Test func theFactorKeepsTheGradientsSize() {
    let context = Context(arena: Arena(reserving: 1 << 20))
    defer { withExtendedLifetime(context) {} }
    let scores = context.arena.normal(n: 5, c: 6, "student")
    let teacher = context.arena.normal(n: 5, c: 6, "teacher")
    for tensor in [scores, teacher] {
      for row in 0..<5 {
        let mean = tensor.buffer[row * 6..<row * 6 + 6].reduce(0, +) / 6
        for k in 0..<6 { tensor.buffer[row * 6 + k] -= mean }
      }
    }
    let expected = zip(scores.buffer, teacher.buffer).map { ($0 - $1) / 30 }
    _ = Distillation(temperature: 1000, squared: true).apply(scores, teacher: teacher, count: 5, context) { _ in -1 }
    // The next term of the series is smaller by scores/T.
    for (found, value) in zip(scores.buffer, expected) { #expect(abs(found - value) < 0.01 / 30) }
  }

  /// A teacher that is sure is a label.
  @Test func aSureTeacherIsALabel() {
    let context = Context(arena: Arena(reserving: 1 << 20))
    defer { withExtendedLifetime(context) {} }
    let student = context.arena.normal(n: 6, c: 3, "student")
    let copy = context.arena.copy(student)
    let teacher = context.arena.tensor(like: student)
    for i in teacher.buffer.indices { teacher.buffer[i] = i % 3 == i / 3 % 3 ? 1000 : 0 }
    let soft = Distillation().apply(student, teacher: teacher, count: 6, context) { _ in -1 }
    let hard = SoftmaxCrossEntropy().apply(copy, total: 6, context) { $0 % 3 }
    #expect(abs(soft.loss - hard.loss) < 1e-14 && soft.agreeing == hard.correct)
    for (a, b) in zip(student.buffer, copy.buffer) { #expect(abs(a - b) <= abs(b) * 2 * Float(roundoff)) }
  }
}
