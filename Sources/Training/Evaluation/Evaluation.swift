import Engine
import Foundation
import Ranks

/// Judges frozen features by what labels can be read off them.
///
/// Adding one is a file like `KNN.swift` and a row in `Evaluations.all`. A protocol is known by its name and version;
/// whatever changes its numbers makes a new version.
package protocol Evaluation: Sendable {
  static var name: String { get }
  static var version: Int { get }
  /// What a table calls it, such as "kNN, k = 200".
  var title: String { get }
  /// Bytes that a rank needs beside the tables, at most.
  func workspace(_ job: EvaluationSize) -> Int
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

/// How large an evaluation is.
package struct EvaluationSize: Sendable {
  /// Rows of the two tables, and their width.
  package var train: Int, test: Int, dimension: Int
  package var classes: Int
  package var ranks: Int, threads: Int

  package init(train: Int, test: Int, dimension: Int, classes: Int, ranks: Int = 1, threads: Int = 1) {
    self.train = train
    self.test = test
    self.dimension = dimension
    self.classes = classes
    self.ranks = ranks
    self.threads = threads
  }

  /// Bytes of the two tables, which every rank has.
  package var tables: Int { (train + test) * dimension * MemoryLayout<Float>.stride }
  /// Bytes of the largest share that a rank computes of a table, before it is gathered.
  package var share: Int { (max(train, test) / ranks + 1) * dimension * MemoryLayout<Float>.stride }
  /// Bytes that a rank needs for all evaluations, one after the other.
  package var bytes: Int { tables + max(share, Evaluations.all.map { $0.workspace(self) }.max() ?? 0) }
}

/// What an evaluation found.
package struct EvaluationResult: Codable, Sendable, Equatable {
  /// One class of the test images.
  package struct Class: Codable, Sendable, Equatable {
    /// The first score among the images of this class; nil where there are none.
    package var value: Double?
    package var count: Int
  }

  /// The protocol, such as `knn`, and its version.
  package var name: String
  package var version: Int
  /// What a table calls it.
  package var title: String
  /// Whose features: "learned", "random weights", "raw pixels". The caller names it.
  package var features = ""
  /// What was found, the most telling first; at least one.
  package var scores: [Score]
  /// Every choice that the numbers depend on.
  package var options: [String: JSONValue]
  package var trainCount: Int
  package var testCount: Int
  package var dimension: Int
  /// By label; empty where the evaluation tells nothing of single classes.
  package var classes: [Class]
  /// What a reader must know, in words: a k that was cut, a fit that did not converge.
  package var notes: [String]
  /// What depends on the clock.
  package var timing: [String: Double]

  package var identifier: String { "\(name)-v\(version)" }
  /// The score that tables are read by.
  package var main: Score { scores[0] }

  /// A score by its name.
  package func score(_ name: String) -> Score? { scores.first { $0.name == name } }

  package init<E: Evaluation>(
    _ evaluation: E, train: FeatureTable, test: FeatureTable, scores: [Score], classes: [Class] = [],
    options: [String: JSONValue] = [:], notes: [String] = [], since start: ContinuousClock.Instant
  ) {
    precondition(!scores.isEmpty, "\(E.identifier) gives no score")
    name = E.name
    version = E.version
    title = evaluation.title
    self.scores = scores
    self.classes = classes
    self.options = options
    trainCount = train.count
    testCount = test.count
    dimension = test.dimension
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
