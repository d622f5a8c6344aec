import Engine
import Foundation
import Randomness
import Ranks
import TestSupport
import Testing
import Training

@Suite struct HealthTests {
  /// The root gets the health of all ranks' rows, up to a number of them; the other ranks get nothing.
  @Test(arguments: [10, 3000]) func ranksGiveTheirShareOfRows(_ rows: Int) {
    let found = Ranks.run(2) { communicator in
      let context = Context(communicator: communicator)
      let share = min(rows, Embeddings.rowsForHealth / 2)
      return context.scratch { arena in
        let tensor = arena.tensor(n: rows, c: 4)
        for i in 0..<rows {
          for j in 0..<4 { tensor.data[i * 4 + j] = i >= share ? .nan : j == (i + communicator.rank) % 4 ? 1 : 0 }
        }
        var embeddings = Embeddings(dimension: 4)
        embeddings.keep(tensor, context)
        return embeddings.health(communicator)
      }
    }
    #expect(found[1] == nil && found[0]?.dimension == 4)
    #expect(found[0].map { abs($0.deviation - 0.866) < 0.01 } == true, "\(found)")
  }

  /// Rows of length 1.
  static func normalised(_ rows: [[Double]]) -> [Float] {
    rows.flatMap { row in
      let norm = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
      return row.map { Float($0 / norm) }
    }
  }

  static func sphere(_ n: Int, _ d: Int, used: Int? = nil, word: UInt64 = 0) -> [Float] {
    var draws = Draws(seed: 5, .check, word)
    return normalised((0..<n).map { _ in (0..<d).map { $0 < used ?? d ? draws.normal() : 0 } })
  }

  static func outcome(loss: Double, candidates: Int) -> Outcome {
    var outcome = Outcome(loss: loss, chance: log(Double(candidates)))
    outcome.figures[.candidates] = Double(candidates)
    return outcome
  }

  @Test func evenSpread() {
    let n = 4000
    let d = 32
    let health = EmbeddingHealth(Self.sphere(n, d), Self.sphere(n, d, word: 1), count: n, dimension: d)
    // Sampling errors: deviation 1/√(2nd) ~ 2e-3; cosines 1/√(nd) ~ 3e-3; rank: the spectrum's spread √(d/n) squared.
    #expect(abs(health.deviation - 1) < 0.01)
    #expect(health.effectiveRank! > 31.5 && health.effectiveRank! <= 32.000001)
    #expect(abs(health.positiveSimilarity!) < 0.015 && abs(health.negativeSimilarity!) < 0.005)
    #expect(health.warnings(Self.outcome(loss: 3, candidates: 512), method: SimCLR()).isEmpty)
  }

  @Test func collapse() {
    let rows = Array(repeating: [1.0, 2, 3, 4, 5, 6, 7, 8], count: 50)
    let x = Self.normalised(rows)
    let health = EmbeddingHealth(x, x, count: 50, dimension: 8)
    #expect(health.deviation < 1e-6 && health.effectiveRank == 0)
    #expect(abs(health.positiveSimilarity! - 1) < 1e-6 && abs(health.negativeSimilarity! - 1) < 1e-6)
    let warnings = health.warnings(Self.outcome(loss: log(511) - 0.01, candidates: 511), method: MoCo())
    #expect(warnings.count == 3)
    #expect(
      warnings[0] == "the loss 6.226 sits at ln(511) = 6.236, what guessing gives: "
        + MoCo().remedy(.guessing))
    #expect(MoCo().remedy(.guessing).contains("raise method.momentum"))
    #expect(warnings[1].hasPrefix("the embeddings are collapsing: their deviation is 0.000 of an even spread's"))
    #expect(warnings[2].hasPrefix("the embeddings use 0.0 of 8 dimensions: the rest has collapsed: "))
  }

  /// A classifier has no embeddings; its loss says whether it guesses or does worse.
  @Test func aClassifierThatLearnsNothing() {
    let chance = log(10.0)
    func warnings(_ loss: Double) -> [String] { Outcome(loss: loss, chance: chance).warnings(method: Supervised()) }
    #expect(warnings(1.9).isEmpty && warnings(2.9).isEmpty)
    #expect(warnings(2.31) == ["the loss 2.310 sits at 2.303, what guessing gives: " + Supervised().remedy(.guessing)])
    #expect(warnings(6184).first?.hasPrefix("the loss 6184.000 is far above 2.303, what guessing gives: ") == true)
    #expect(Outcome(loss: 9).warnings(method: Distil()).isEmpty)
  }

  @Test(arguments: [(600, 20), (10, 64), (40, 700)]) func rankCountsDimensionsInUse(n: Int, d: Int) {
    // Points at ±1 on three axes in turn, so three equal eigenvalues.
    let rows = (0..<n / 6 * 6).map { i in (0..<d).map { $0 == i % 3 ? (i / 3 % 2 == 0 ? 1.0 : -1.0) : 0 } }
    let health = EmbeddingHealth(Self.normalised(rows), count: rows.count, dimension: d)
    #expect(abs(health.effectiveRank! - 3) < 1e-6)
    #expect(health.positiveSimilarity == nil)
  }

  @Test func similaritiesEqualTheNaiveTwin() {
    let (n, d) = (30, 6)
    let a = Self.sphere(n, d)
    let b = Self.sphere(n, d, word: 1)
    func cosine(_ i: Int, _ j: Int) -> Double {
      (0..<d).reduce(0) { $0 + Double(a[i * d + $1]) * Double(b[j * d + $1]) }
    }
    let health = EmbeddingHealth(a, b, count: n, dimension: d)
    let positive = (0..<n).reduce(0) { $0 + cosine($1, $1) } / Double(n)
    let negative =
      (0..<n).reduce(0.0) { sum, i in sum + (0..<n).reduce(0) { $1 == i ? $0 : $0 + cosine(i, $1) } }
      / Double(n * (n - 1))
    #expect(abs(health.positiveSimilarity! - positive) < 1e-12 && abs(health.negativeSimilarity! - negative) < 1e-12)
  }

  @Test func eigenvaluesOfKnownMatrices() {
    func sorted(_ matrix: [Double], _ n: Int) -> [Double] { symmetricEigenvalues(matrix, n) ?? [] }
    #expect(sorted([3], 1) == [3])
    #expect(symmetricEigenvalues([.nan], 1) == nil)
    #expect(zip(sorted([2, 1, 1, 2], 2), [1, 3]).allSatisfy { abs($0 - $1) < 1e-14 })
    // The second-difference matrix has eigenvalues 2 − 2 cos(π k / (n + 1)).
    for n in [3, 10, 65, 128] {
      let matrix = (0..<n * n).map { abs($0 / n - $0 % n) == 0 ? 2.0 : abs($0 / n - $0 % n) == 1 ? -1 : 0 }
      let expected = (1...n).map { 2 - 2 * cos(.pi * Double($0) / Double(n + 1)) }
      #expect(sorted(matrix, n).count == n)
      for (value, exact) in zip(sorted(matrix, n), expected) { #expect(abs(value - exact) < 1e-12) }
    }
    #expect(sorted([Double](repeating: 0, count: 25), 5) == [0, 0, 0, 0, 0])
  }

  @Test func eigenvaluesKeepTracesOfPowers() throws {
    var draws = Draws(seed: 2, .check)
    let n = 40
    var matrix = [Double](repeating: 0, count: n * n)
    for i in 0..<n {
      for j in 0...i {
        matrix[i * n + j] = draws.normal()
        matrix[j * n + i] = matrix[i * n + j]
      }
    }
    func product(_ a: [Double], _ b: [Double]) -> [Double] {
      (0..<n * n).map { place in (0..<n).reduce(0) { $0 + a[place / n * n + $1] * b[$1 * n + place % n] } }
    }
    let values = try #require(symmetricEigenvalues(matrix, n))
    var power = matrix
    for exponent in 1...5 {
      let trace = (0..<n).reduce(0) { $0 + power[$1 * n + $1] }
      let sum = values.reduce(0) { $0 + pow($1, Double(exponent)) }
      let size = values.reduce(0) { $0 + pow(abs($1), Double(exponent)) }
      #expect(abs(trace - sum) < 1e-11 * size)
      power = product(power, matrix)
    }
  }
}
