import Engine
import Foundation
import Ranks

/// Judges frozen features by how well labels are read off them.
///
/// Adding one is a file like `KNN.swift` and a row in `Evaluations.all`. A protocol is known by its name and version;
/// whatever changes its numbers makes a new version.
package protocol Evaluation: Sendable {
  static var name: String { get }
  static var version: Int { get }
  /// What a table calls it, such as "kNN, k = 200".
  var title: String { get }
  /// - Parameters:
  ///   - train, test: the whole tables, the same on every rank.
  ///   - context: threads, and the ranks over which the work is shared out.
  /// - Returns: the same result on every rank, up to `timing`.
  /// - Throws: `FeatureError`, on all ranks alike.
  func run(train: FeatureTable, test: FeatureTable, on context: Context) throws -> EvaluationResult
}

extension Evaluation {
  /// Name and version, such as `knn-v1`.
  package static var identifier: String { "\(name)-v\(version)" }

  /// On one thread.
  package func run(train: FeatureTable, test: FeatureTable, communicator: any Communicator) throws -> EvaluationResult {
    try run(train: train, test: test, on: Context(communicator: communicator))
  }
}

/// The evaluations of a full report, in its order.
package enum Evaluations {
  package static let all: [any Evaluation] = [LinearProbe(), KNN(neighbours: 200), KNN(neighbours: 20)]
}

/// What an evaluation found.
package struct EvaluationResult: Codable, Sendable, Equatable {
  /// Right answers of one class.
  package struct Class: Codable, Sendable, Equatable {
    package var correct: Int
    package var count: Int
    /// Nil where the test images hold none of this class.
    package var accuracy: Double? { count == 0 ? nil : Double(correct) / Double(count) }
  }

  /// The protocol, such as `knn`, and its version.
  package var name: String
  package var version: Int
  /// What a table calls it.
  package var title: String
  /// Whose features: "learned", "random", "raw pixels". The caller names it.
  package var features = ""
  /// Every choice that the numbers depend on.
  package var options: [String: JSONValue]
  package var trainCount: Int
  package var testCount: Int
  package var classCount: Int
  package var dimension: Int
  package var correct: Int
  package var top1: Double
  /// Of top-1.
  package var interval: Interval
  /// Nil where there are five classes or fewer.
  package var top5: Double?
  package var classes: [Class]
  /// What a reader must know, in words: a k that was cut, a fit that did not converge.
  package var notes: [String]
  /// What depends on the clock.
  package var timing: [String: Double]

  package var identifier: String { "\(name)-v\(version)" }

  /// Counts of right answers, summed over ranks.
  /// - Parameters:
  ///   - top1, top5: by class, this rank's.
  init<E: Evaluation>(
    _ evaluation: E, train: FeatureTable, test: FeatureTable, options: [String: JSONValue], top1: [Int], top5: [Int],
    notes: [String], since start: ContinuousClock.Instant, _ communicator: any Communicator
  ) {
    var counts = (top1 + top5).map(Int64.init)
    counts.withUnsafeMutableBufferPointer { communicator.allReduce($0, .sum, on: .control, "right answers") }
    let sizes = test.classSizes
    let right = counts.prefix(test.classCount).map(Int.init)
    name = E.name
    version = E.version
    title = evaluation.title
    self.options = options
    trainCount = train.count
    testCount = test.count
    classCount = test.classCount
    dimension = test.dimension
    correct = right.reduce(0, +)
    self.top1 = Double(correct) / Double(test.count)
    interval = .wilson(correct, of: test.count)
    self.top5 =
      test.classCount > 5
      ? Double(counts.suffix(test.classCount).reduce(0, +)) / Double(test.count) : nil
    classes = zip(right, sizes).map { Class(correct: $0, count: $1) }
    self.notes = notes
    timing = ["seconds": (ContinuousClock().now - start) / .seconds(1)]
  }

  /// Sorted keys, so that equal results are equal files.
  package func json() throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    return try encoder.encode(self)
  }
}

/// Both tables must be sound and of one kind.
func check(_ train: FeatureTable, _ test: FeatureTable) throws(FeatureError) {
  try train.check("training")
  try test.check("test")
  guard train.dimension == test.dimension else {
    throw FeatureError("test", "they have \(test.dimension) dimensions, the training features \(train.dimension)")
  }
  guard train.classCount == test.classCount else {
    throw FeatureError(
      "test", "there are \(test.classCount) classes, in training \(train.classCount); pack both with the same classes")
  }
}
