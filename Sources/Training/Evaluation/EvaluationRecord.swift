import Engine
import Foundation
import Shards

/// Results of one encoder on one pair of sets: those alone may stand in a table together.
package struct EvaluationRecord: Codable, Sendable, Equatable {
  /// What was judged.
  package struct Subject: Codable, Sendable, Equatable {
    /// A run's folder, or a file of weights.
    package var path: String
    /// The stage that it was trained in last, its index and its name.
    package var stage: Int
    package var stageName: String
    /// Steps that it was trained for, over all stages; 0 for weights from a file.
    package var step: Int

    package init(path: String, stage: Int, stageName: String, step: Int) {
      self.path = path
      self.stage = stage
      self.stageName = stageName
      self.step = step
    }
  }

  /// Images that it was judged by.
  package struct Images: Codable, Sendable, Equatable {
    package var path: String
    package var fingerprint: String
    /// Images that were taken, of so many in the set.
    package var taken: Int
    package var count: Int

    package init(path: String, fingerprint: String, taken: Int, count: Int) {
      self.path = path
      self.fingerprint = fingerprint
      self.taken = taken
      self.count = count
    }

    init(_ images: LabelledImages) {
      self.init(
        path: images.set.path, fingerprint: String(images.set.fingerprint, radix: 16), taken: images.count,
        count: images.set.count)
    }

    /// Such as `290 images of data/train`, or `100 of 290 images of data/train`.
    package var words: String {
      "\(taken < count ? "\(grouped(taken)) of " : "")\(grouped(count)) images of \(path)"
    }
  }

  package var subject: Subject
  package var input: EncoderInput
  package var train: Images
  package var test: Images
  /// Names by label.
  package var classNames: [String]
  /// What was left out and why, in words.
  package var notes: [String]
  package var results: [EvaluationResult]

  package init(
    _ subject: Subject, input: EncoderInput, train: Images, test: Images, classNames: [String], notes: [String] = [],
    results: [EvaluationResult] = []
  ) {
    self.subject = subject
    self.input = input
    self.train = train
    self.test = test
    self.classNames = classNames
    self.notes = notes
    self.results = results
  }

  /// Whether both are of the same encoder and the same images.
  package func belongs(with other: EvaluationRecord) -> Bool {
    (subject, input, train, test) == (other.subject, other.input, other.train, other.test)
  }

  /// Such as `After step 12 (stage 0, pretrain): learned from 290 images of …, judged on 110 images of …`.
  package var heading: String { "\(origin): \(data)" }

  /// Which encoder.
  package var origin: String {
    subject.step == 0
      ? "Weights \(subject.path)" : "After step \(subject.step) (stage \(subject.stage), \(subject.stageName))"
  }

  /// Which images.
  package var data: String { "learned from \(train.words), judged on \(test.words)" }

  /// What was learned, in a sentence; empty without a result on learned features.
  package var summary: String {
    guard let learned = results.first(where: { $0.features == "learned" }) else { return "" }
    func words(_ result: EvaluationResult) -> String {
      [result.main.text, result.main.intervalText].compactMap { $0 }.joined(separator: " ")
    }
    func same(_ features: String) -> EvaluationResult? {
      results.first { $0.features == features && $0.identifier == learned.identifier && $0.title == learned.title }
    }
    var text = "\(origin), the \(learned.title) reaches \(learned.main.name) \(words(learned)) on the learned features"
    let others = ["random weights", "raw pixels"].compactMap { name in same(name).map { "\(words($0)) on \(name)" } }
    if !others.isEmpty { text += ", " + others.joined(separator: ", ") }
    text += ", judged on \(grouped(learned.testCount)) held-out images."
    return learned.main.interval == nil ? text : text + " Brackets: 95 % intervals."
  }
}
