import Engine
import Foundation
import Ranks

/// Right answers of a classifier, counted by class: top-1, and top-5 where there are more than five classes.
struct Classification {
  /// By label: how often the right class came first, and among the first five. This rank's test images.
  var top1: [Int], top5: [Int]

  /// Sums the counts over ranks; every rank calls it.
  func result<E: Evaluation>(
    of evaluation: E, train: FeatureTable, test: FeatureTable, options: [String: JSONValue], notes: [String],
    since start: ContinuousClock.Instant, _ communicator: any Communicator
  ) -> EvaluationResult {
    var counts = (top1 + top5).map(Int64.init)
    counts.withUnsafeMutableBufferPointer { communicator.allReduce($0, .sum, on: .control, "right answers") }
    let first = counts.prefix(test.classCount).map(Int.init)
    let five = counts.suffix(test.classCount).reduce(0) { $0 + Int($1) }
    var scores = [Score("top-1", hits: first.reduce(0, +), of: test.count)]
    if test.classCount > 5 { scores.append(Score("top-5", Double(five) / Double(test.count), unit: .share)) }
    let classes = zip(first, test.classSizes).map { right, count in
      EvaluationResult.Class(value: count == 0 ? nil : Double(right) / Double(count), count: count)
    }
    return EvaluationResult(
      evaluation, train: train, test: test, scores: scores, classes: classes, options: options, notes: notes,
      since: start)
  }
}
