import Engine
import Foundation
import Shards

/// How the classifier that a stage trained does on held-out images: accuracy, which classes it takes for which, and its
/// worst mistakes.
package struct ClassifierRecord: Codable, Sendable, Equatable {
  /// The checkpoint that was judged.
  package var subject: EvaluationRecord.Subject
  package var test: EvaluationRecord.Images
  /// Names by label.
  package var classNames: [String]
  package var accuracy: Score
  /// By label and by what it was taken for: number of images.
  package var confusion: [[Int]]
  /// The mistakes that it was surest of.
  package var worst: ReportContent.Grid

  /// How many mistakes are shown.
  private static let mistakes = 24

  /// - Parameter picture: of a sample of the test set.
  package init(
    _ subject: EvaluationRecord.Subject, _ predictions: Predictions, _ images: LabelledImages, classNames: [String],
    picture: (_ sample: Int) throws -> ReportImage
  ) throws {
    self.subject = subject
    self.classNames = classNames
    test = EvaluationRecord.Images(images)
    accuracy = Score("top-1", hits: predictions.hits(images.labels), of: images.count)
    var confusion = [[Int]](repeating: Array(repeating: 0, count: classNames.count), count: classNames.count)
    var wrong: [(row: Int, probability: Float)] = []
    for row in images.samples.indices {
      let label = Int(images.labels[row])
      let predicted = predictions.predicted(row)
      confusion[label][predicted] += 1
      if predicted != label { wrong.append((row, predictions[row].max()!)) }
    }
    self.confusion = confusion
    wrong.sort { ($1.probability, $0.row) < ($0.probability, $1.row) }
    let pictures = try wrong.prefix(Self.mistakes).map { row, probability in
      let truth = classNames[Int(images.labels[row])]
      let found = classNames[predictions.predicted(row)]
      return ReportContent.Picture(
        try picture(images.samples[row]), caption: "\(truth), given \(found) \(percent(Double(probability))) %",
        mark: .different)
    }
    worst = ReportContent.Grid(
      "Worst mistakes",
      text: "Held-out images that are given another class than theirs, the surest first. \(grouped(wrong.count)) of "
        + "\(grouped(images.count)) are wrong.",
      size: 96, rows: [.init("", pictures)])
  }

  /// What was learned, in a sentence.
  package var summary: String {
    "After step \(subject.step) the classifier names \(accuracy.text) \(accuracy.intervalText ?? "") of "
      + "\(grouped(accuracy.trials ?? 0)) held-out images rightly."
  }

  /// The classes that are confused most often, at most so many: label, what it was taken for, images.
  package func confused(_ count: Int) -> [(label: Int, predicted: Int, images: Int)] {
    let all = confusion.indices.flatMap { label in
      confusion[label].indices.filter { $0 != label && confusion[label][$0] > 0 }.map {
        (label: label, predicted: $0, images: confusion[label][$0])
      }
    }
    return Array(all.sorted { ($1.images, $0.label, $0.predicted) < ($0.images, $1.label, $1.predicted) }.prefix(count))
  }
}
