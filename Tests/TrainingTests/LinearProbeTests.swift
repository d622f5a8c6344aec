import Engine
import Foundation
import Randomness
import Ranks
import TestSupport
import Testing
import Training

@Suite struct LinearProbeTests {
  /// Reference of the objective in Double, term by term.
  static func twin(_ table: FeatureTable, _ parameters: [Double], penalty: Double) -> (loss: Double, gradient: [Double])
  {
    let n = table.count
    let d = table.dimension
    let c = table.classCount
    var gradient = [Double](repeating: 0, count: (d + 1) * c)
    var loss = 0.0
    let columns = (0..<d).map { i in (0..<n).map { Double(table.features[$0 * d + i]) } }
    let standard = columns.map { column in
      let mean = column.reduce(0, +) / Double(n)
      let deviation = (column.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(n)).squareRoot()
      return column.map { deviation > 1e-6 ? ($0 - mean) / deviation : 0 }
    }
    for row in 0..<n {
      var logits = (0..<c).map { parameters[d * c + $0] }
      for i in 0..<d { for k in 0..<c { logits[k] += standard[i][row] * parameters[i * c + k] } }
      let sum = logits.reduce(0) { $0 + exp($1) }
      let label = Int(table.labels[row])
      loss += (log(sum) - logits[label]) / Double(n)
      for k in 0..<c {
        let residual = (exp(logits[k]) / sum - (k == label ? 1 : 0)) / Double(n)
        for i in 0..<d { gradient[i * c + k] += residual * standard[i][row] }
        gradient[d * c + k] += residual
      }
    }
    for i in 0..<d * c {
      loss += penalty / 2 * parameters[i] * parameters[i]
      gradient[i] += penalty * parameters[i]
    }
    return (loss, gradient)
  }

  static func objective(_ table: FeatureTable, _ communicator: any Communicator = SingleProcess(), threads: Int = 1)
    -> SoftmaxObjective
  {
    SoftmaxObjective(
      table, rows: Array(0..<table.count), Standardisation(table),
      on: Context(threads: threads, communicator: communicator))
  }

  let table = FeatureTable.clouds(count: 700, dimension: 9, classes: 4, spread: 1.5, part: 0)

  func parameters() -> [Double] {
    var draws = Draws(seed: 3, .check)
    return (0..<10 * 4).map { _ in draws.normal() }
  }

  @Test func gradientOfTheTwinIsTheSlope() {
    let x = parameters()
    let (_, gradient) = Self.twin(table, x, penalty: 0.03)
    for i in x.indices {
      var up = x
      var down = x
      up[i] += 1e-5
      down[i] -= 1e-5
      let slope = (Self.twin(table, up, penalty: 0.03).loss - Self.twin(table, down, penalty: 0.03).loss) / 2e-5
      // Error of central differences: h² times the third derivative, and rounding of 1e-16 / h.
      #expect(abs(slope - gradient[i]) < 1e-8)
    }
  }

  @Test func objectiveEqualsTheTwin() {
    let x = parameters()
    let twin = Self.twin(table, x, penalty: 0.03)
    let objective = Self.objective(table)
    objective.penalty = 0.03
    var gradient = [Double](repeating: 0, count: x.count)
    let loss = objective.evaluate(x, gradient: &gradient)
    // Float products of 9 terms around 1: relative 9 · 2⁻²⁴ each, sums in Double.
    #expect(abs(loss - twin.loss) < 2e-6 * twin.loss)
    for i in x.indices { #expect(abs(gradient[i] - twin.gradient[i]) < 2e-6) }
  }

  @Test func anyRanksAndThreadsSeeTheSameObjective() throws {
    let x = parameters()
    let evaluate: @Sendable (any Communicator, Int) -> [Double] = { [table] communicator, threads in
      var gradient = [Double](repeating: 0, count: x.count)
      return [Self.objective(table, communicator, threads: threads).evaluate(x, gradient: &gradient)] + gradient
    }
    let one = evaluate(SingleProcess(), 1)
    #expect(evaluate(SingleProcess(), 3) == one)
    for ranks in 2...4 {
      let results = try Ranks.run(ranks) { evaluate($0, 1) }
      for result in results {
        #expect(result == results[0])
        // Blocks have the same bits; only the order of at most 3 additions in Double differs.
        for (a, b) in zip(result, one) { #expect(abs(a - b) < 1e-14) }
      }
    }
  }

  @Test func fitEqualsPlainGradientDescent() {
    let small = FeatureTable.clouds(count: 120, dimension: 3, classes: 3, spread: 1, part: 0)
    let objective = Self.objective(small)
    objective.penalty = 0.1
    var fitted = [Double](repeating: 0, count: objective.parameterCount)
    let outcome = LBFGS(tolerance: 1e-6, iterations: 200).minimise(&fitted) { objective.evaluate($0, gradient: &$1) }
    #expect(outcome.converged && outcome.iterations < 60)
    var plain = [Double](repeating: 0, count: fitted.count)
    for _ in 0..<2000 {
      let gradient = Self.twin(small, plain, penalty: 0.1).gradient
      for i in plain.indices { plain[i] -= 0.5 * gradient[i] }
    }
    // The penalty makes the objective 0.1-strongly convex in W: |x − x*| ≤ ‖gradient‖ / 0.1 ≤ √12 · 1e-5.
    for i in 0..<9 { #expect(abs(plain[i] - fitted[i]) < 4e-5) }
  }

  @Test func minimisesRosenbrock() {
    var x = [-1.2, 1.0]
    let outcome = LBFGS(tolerance: 1e-8, iterations: 200).minimise(&x) { x, gradient in
      let a = 1 - x[0]
      let b = x[1] - x[0] * x[0]
      gradient = [-2 * a - 400 * x[0] * b, 200 * b]
      return a * a + 100 * b * b
    }
    #expect(outcome.converged && abs(x[0] - 1) < 1e-6 && abs(x[1] - 1) < 1e-6)
  }

  @Test func separatesWhatCanBeSeparated() throws {
    let train = FeatureTable.clouds(count: 600, dimension: 20, classes: 6, spread: 0.3, part: 0)
    let test = FeatureTable.clouds(count: 200, dimension: 20, classes: 6, spread: 0.3, part: 1)
    let result = try LinearProbe().run(train: train, test: test, communicator: SingleProcess())
    #expect(result.main.hits == 200 && result.main.value == 1 && result.score("top-5")?.value == 1)
    #expect(result.options["held_out"] == .number(120))
  }

  @Test func anyRanksGiveTheSame() throws {
    let train = FeatureTable.clouds(count: 900, dimension: 16, classes: 5, spread: 2.5, part: 0)
    let test = FeatureTable.clouds(count: 400, dimension: 16, classes: 5, spread: 2.5, part: 1)
    let one = try LinearProbe().run(train: train, test: test, communicator: SingleProcess())
    #expect(one.main.hits! > 200 && one.main.hits! < 380)
    for ranks in 1...3 {
      let results = try Ranks.run(ranks) {
        try LinearProbe().run(train: train, test: test, communicator: $0)
      }
      for result in results {
        // The iterations differ only by rounding in Double, which may change one answer at a decision boundary.
        #expect(abs(result.main.hits! - one.main.hits!) <= 1)
        #expect(result.options["penalty"] == one.options["penalty"])
        #expect(result.main.hits == results[0].main.hits)
      }
    }
  }

  @Test func degenerateTables() throws {
    let labels = (0..<20).map { Int32($0 % 2) }
    let constant = FeatureTable(features: Array(repeating: 3.3, count: 60), labels: labels, classCount: 2)
    #expect(try LinearProbe().run(train: constant, test: constant, communicator: SingleProcess()).main.hits == 10)
    let one = FeatureTable(features: (0..<60).map(Float.init), labels: Array(repeating: 0, count: 20), classCount: 1)
    #expect(try LinearProbe().run(train: one, test: one, communicator: SingleProcess()).main.hits == 20)
    let three = FeatureTable(features: [1, 2, 3], labels: [0, 1, 1], classCount: 2)
    let result = try LinearProbe().run(train: three, test: three, communicator: SingleProcess())
    #expect(result.notes.first == "λ is 0.001 without a choice: 3 training images are too few to hold some out")
    #expect(throws: FeatureError.self) {
      try LinearProbe().run(
        train: FeatureTable(features: [1, .infinity], labels: [0, 1], classCount: 2), test: three,
        communicator: SingleProcess())
    }
  }

  @Test func constantFeaturesCarryNothing() {
    let table = FeatureTable(features: [1e6, 1, 1e6, 2, 1e6, 3], labels: [0, 0, 0], classCount: 1)
    var row: [Float] = [9, 9]
    Standardisation(table).apply(table, 2, into: &row)
    #expect(row[0] == 0 && abs(row[1] - Float(1.5).squareRoot()) < 1e-6)
  }
}
