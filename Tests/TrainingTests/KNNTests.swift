import Engine
import Foundation
import Ranks
import TestSupport
import Testing
import Training

@Suite struct KNNTests {
  /// Reference: all similarities in Double, and one full sort.
  static func naive(_ train: FeatureTable, _ test: FeatureTable, k: Int, temperature: Double) -> [Int] {
    func unit(_ table: FeatureTable, _ row: Int) -> [Double] {
      let x = table.features[row * table.dimension..<(row + 1) * table.dimension].map(Double.init)
      let norm = x.reduce(0) { $0 + $1 * $1 }.squareRoot()
      return norm == 0 ? x : x.map { $0 / norm }
    }
    let rows = (0..<train.count).map { unit(train, $0) }
    return (0..<test.count).map { row in
      let query = unit(test, row)
      let similarities = rows.map { zip($0, query).reduce(0) { $0 + $1.0 * $1.1 } }
      let nearest = similarities.indices.sorted { (similarities[$1], $0) < (similarities[$0], $1) }.prefix(k)
      var votes = [Double](repeating: 0, count: train.classCount)
      for i in nearest { votes[Int(train.labels[i])] += exp(similarities[i] / temperature) }
      return votes.indices.max { votes[$0] < votes[$1] || (votes[$0] == votes[$1] && $0 > $1) }!
    }
  }

  let train = FeatureTable.clouds(count: 1500, dimension: 24, classes: 7, spread: 2, part: 0)
  let test = FeatureTable.clouds(count: 333, dimension: 24, classes: 7, spread: 2, part: 1)

  @Test(arguments: [1, 5, 20, 200]) func votesAsTheNaiveTwin(k: Int) throws {
    let result = try KNN(neighbours: k).run(train: train, test: test, communicator: SingleProcess())
    let answers = Self.naive(train, test, k: k, temperature: 0.1)
    let correct = zip(answers, test.labels).count { $0 == Int($1) }
    // Similarities differ by rounding (2⁻²⁴ √24 ≈ 3e-7). Here no two neighbours at the k-th place are that close.
    #expect(result.main.hits == correct)
    #expect(correct > test.count / 2 && correct < test.count)
    #expect(result.testCount == 333 && result.trainCount == 1500 && result.dimension == 24)
    #expect(result.main.value == Double(correct) / 333 && result.main.name == "top-1")
    #expect(
      result.classes.reduce(0) { $0 + Int(($1.value! * Double($1.count)).rounded()) } == correct
        && result.classes.reduce(0) { $0 + $1.count } == 333)
    #expect(result.score("top-5")!.value >= result.main.value)
    #expect(result.notes.isEmpty)
  }

  @Test func anyRanksAndThreadsGiveTheSame() throws {
    let one = try KNN(neighbours: 50).run(train: train, test: test, communicator: SingleProcess())
    for (ranks, threads) in [(2, 1), (3, 1), (4, 2), (1, 3)] {
      let results = try Ranks.run(ranks) { [train, test] communicator in
        var result = try KNN(neighbours: 50).run(
          train: train, test: test, on: Context(threads: threads, communicator: communicator))
        result.timing = one.timing
        return result
      }
      for result in results { #expect(result == one, "\(ranks) ranks of \(threads) threads") }
    }
  }

  @Test func neighboursComeInOrderAndTiesByTheLowerIndex() {
    // Rows 0 ... 9 alternate between two directions, so similarities tie.
    let features: [Float] = (0..<10).flatMap { $0 % 2 == 0 ? [1, 0] as [Float] : [3, 3] }
    let table = FeatureTable(features: features, labels: Array(repeating: 0, count: 10), classCount: 1)
    let query = FeatureTable(features: [2, 0], labels: [0], classCount: 1)
    for k in 1...10 {
      NeighbourSearch(table, k: k).find(query, 0..<1) { _, similarities, indices in
        #expect(Array(indices) == Array([0, 2, 4, 6, 8, 1, 3, 5, 7, 9].prefix(k)))
        #expect(similarities[0] == 1)
      }
    }
  }

  @Test func searchSpansSeveralBlocksOfCandidates() {
    let table = FeatureTable.clouds(count: 3000, dimension: 8, classes: 3, spread: 1, part: 2)
    let query = FeatureTable.clouds(count: 5, dimension: 8, classes: 3, spread: 1, part: 3)
    NeighbourSearch(table, k: 2500).find(query, 0..<5) { _, similarities, indices in
      #expect(Set(indices).count == 2500)
      #expect((1..<2500).allSatisfy { similarities[$0] <= similarities[$0 - 1] })
    }
  }

  @Test func kIsCutInWords() throws {
    let few = FeatureTable.clouds(count: 12, dimension: 3, classes: 2, spread: 0.1, part: 0)
    let result = try KNN().run(train: few, test: few, communicator: SingleProcess())
    #expect(result.options["k"] == .number(12))
    #expect(result.notes == ["k was cut from 200 to 12, the number of training images"])
    #expect(result.score("top-5") == nil)
  }

  @Test func degenerateTables() throws {
    let constant = FeatureTable(
      features: Array(repeating: 1, count: 60), labels: (0..<20).map { $0 % 2 }, classCount: 2)
    let result = try KNN(neighbours: 20).run(train: constant, test: constant, communicator: SingleProcess())
    #expect(result.main.hits == 10)  // A tied vote goes to class 0.
    let zero = FeatureTable(
      features: Array(repeating: 0, count: 60), labels: Array(repeating: 0, count: 20), classCount: 1)
    #expect(try KNN().run(train: zero, test: zero, communicator: SingleProcess()).main.hits == 20)
  }

  /// Of seven classes three have votes. Classes without votes are not among the best five, though fewer than five have
  /// any; a program that sorts all classes by votes would count classes 0 and 1 too.
  @Test func aClassWithoutVotesIsNotAmongTheBestFive() throws {
    let train = FeatureTable(
      features: [1, 0, 0.9, 0.1, 0.8, 0.2] + Array(repeating: [-1, 0] as [Float], count: 4).flatMap { $0 },
      labels: [4, 5, 6, 0, 1, 2, 3], classCount: 7)
    let test = FeatureTable(
      features: Array(repeating: [1, 0] as [Float], count: 7).flatMap { $0 }, labels: Array(0..<7), classCount: 7)
    let result = try KNN(neighbours: 3).run(train: train, test: test, communicator: SingleProcess())
    #expect(result.main.hits == 1 && result.score("top-5")?.value == 3.0 / 7)
    // With all neighbours the four others tie behind them, and two of them, the lower classes, are among the five.
    let all = try KNN(neighbours: 7).run(train: train, test: test, communicator: SingleProcess())
    #expect(all.main.hits == 1 && all.score("top-5")?.value == 5.0 / 7)
  }

  @Test func unsoundTablesAreNamed() throws {
    func message(_ train: FeatureTable, _ test: FeatureTable) -> String {
      do {
        _ = try KNN().run(train: train, test: test, communicator: SingleProcess())
        return "no error"
      } catch { return "\(error)" }
    }
    let sound = FeatureTable(features: [1, 2, 3, 4], labels: [0, 1], classCount: 2)
    #expect(
      message(FeatureTable(features: [1, 2, 3, .nan], labels: [0, 1], classCount: 2), sound)
        == "cannot evaluate the training features: row 1 holds nan at feature 1, expected finite numbers; "
        + "the encoder's weights are likely not finite, take an earlier checkpoint")
    #expect(
      message(sound, FeatureTable(features: [1, 2], labels: [-1], classCount: 2))
        == "cannot evaluate the test features: row 0 has no label; evaluate on a data set in which every image has one")
    #expect(
      message(sound, FeatureTable(features: [1, 2], labels: [2], classCount: 2)).contains(
        "row 0 has label 2, expected 0 ... 1"))
    #expect(
      message(sound, FeatureTable(features: [1, 2, 3], labels: [1], classCount: 2)).contains(
        "3 dimensions, the training features 2"))
    #expect(message(sound, FeatureTable(features: [], labels: [], classCount: 2)).contains("0 rows"))
    #expect(
      message(sound, FeatureTable(features: [1, 2], labels: [1], classCount: 3)).contains("3 classes, in training 2"))
  }
}

@Suite struct IntervalTests {
  /// Newcombe: Two-sided confidence intervals for the single proportion (1998), table I, method 3, to 4 decimals.
  @Test(arguments: [
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
  ])
  func equalsPublishedValues(correct: Int, count: Int, low: Double, high: Double) {
    let interval = Interval.wilson(correct, of: count)
    #expect(abs(interval.low - low) < 0.5e-4 && abs(interval.high - high) < 0.5e-4, "\(interval)")
  }

  @Test func isSymmetricAndClosed() {
    for n in [1, 2, 10, 1000] {
      for x in stride(from: 0, through: n, by: max(1, n / 10)) {
        let a = Interval.wilson(x, of: n)
        let b = Interval.wilson(n - x, of: n)
        #expect(abs(a.low - (1 - b.high)) < 1e-12 && a.low >= 0 && a.high <= 1 && a.low < a.high)
      }
    }
    #expect(Interval.wilson(0, of: 0) == Interval(low: 0, high: 1))
  }
}
