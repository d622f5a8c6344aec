import Engine
import Foundation
import Ranks
import Testing
import Training

@Suite struct EvaluationTableTests {
  @Test func columnsAreAligned() throws {
    var few = try EvaluationResult.sample("knn", "raw pixels", correct: 61, of: 80, k: 20)
    few.scores.removeLast()
    few.notes = ["k was cut from 200 to 20, the number of training images"]
    let table = EvaluationTable([
      try .sample("linear", "learned", correct: 8712, of: 10_000),
      try .sample("linear", "random", correct: 8291, of: 10_000), few,
    ])
    #expect(
      table.text == """
        protocol        features      top-1  95 % interval      correct    top-5  train  width   time
        ---------------------------------------------------------------------------------------------
        linear-v1       learned     87.12 %  [86.45, 87.76]  8712/10000  98.00 %  12000    128  3.2 s
        linear-v1       random      82.91 %  [82.16, 83.64]  8291/10000  98.00 %  12000    128  3.2 s
        knn-v1, k = 20  raw pixels  76.25 %  [65.86, 84.24]       61/80           12000    128  3.2 s
        knn-v1, raw pixels: k was cut from 200 to 20, the number of training images
        """)
  }

  @Test func everyEvaluationHasItsOwnName() {
    let names = Evaluations.all.map { "\(type(of: $0).identifier) \($0.title)" }
    #expect(Set(names).count == names.count)
    #expect(type(of: Evaluations.all[0]).identifier == "linear-v1")
  }

  @Test func aResultIsDeterministicButForItsTiming() throws {
    let train = FeatureTable.clouds(count: 300, dimension: 8, classes: 6, spread: 2, part: 0)
    let test = FeatureTable.clouds(count: 100, dimension: 8, classes: 6, spread: 2, part: 1)
    for evaluation in Evaluations.all {
      var results = try (0..<2).map { _ in
        try evaluation.run(train: train, test: test, communicator: SingleProcess())
      }
      for i in 0..<2 {
        #expect(results[i].timing["seconds"]! > 0)
        results[i].timing = [:]
      }
      #expect(try results[0].json() == results[1].json())
      #expect(try JSONDecoder().decode(EvaluationResult.self, from: results[0].json()) == results[0])
    }
  }
}
