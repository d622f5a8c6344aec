import Foundation
import Shards

/// Which classes a classifier takes for which: the whole matrix of a few classes, the most frequent confusions of many.
struct ReportConfusion {
  let record: ClassifierRecord
  /// Up to so many classes the matrix is shown.
  private static let mostClasses = 40
  private static let mostConfusions = 20

  init(_ record: ClassifierRecord) { self.record = record }

  var html: String {
    let accuracy = record.accuracy
    let interval = accuracy.intervalText.map { ", 95 % interval \($0)" } ?? ""
    let origin = "After step \(record.subject.step), on \(record.test.words): accuracy \(accuracy.text)\(interval)."
    let isSmall = record.classNames.count <= Self.mostClasses
    return "<p>\(HTML.escape(origin))</p>" + (isSmall ? matrix : list)
  }

  /// Rows are the classes of the images, columns what they were given.
  private var matrix: String {
    let names = record.classNames
    let head = names.map { "<th class=\"turned\"><span>\(HTML.escape($0))</span></th>" }.joined()
    let rows = names.indices.map { label in
      let all = record.confusion[label].reduce(0, +)
      let cells = names.indices.map { cell(label, $0, of: all) }.joined()
      return "<tr><th>\(HTML.escape(names[label]))</th>\(cells)<td class=\"n\">\(grouped(all))</td></tr>"
    }
    return "<p>A row is a class of images; its columns say what they were given, in % of the row.</p>"
      + "<div class=\"scroll\"><table class=\"confusion\"><tr><th></th>\(head)<th class=\"n\">images</th></tr>"
      + "\(rows.joined())</table></div>"
  }

  private func cell(_ label: Int, _ predicted: Int, of all: Int) -> String {
    let count = record.confusion[label][predicted]
    let share = all == 0 ? 0 : 100 * Double(count) / Double(all)
    let title = "\(record.classNames[label]), given \(record.classNames[predicted]): \(count) of \(all)"
    let kind = label == predicted ? "right" : "wrong"
    let text = count == 0 ? "" : fixed(share, 0)
    return "<td class=\"n \(kind)\" style=\"--share:\(fixed(share, 1))%\" title=\"\(HTML.escape(title))\">\(text)</td>"
  }

  private var list: String {
    let names = record.classNames
    let rows = record.confused(Self.mostConfusions).map { label, predicted, images in
      let all = record.confusion[label].reduce(0, +)
      return "<tr><td>\(HTML.escape(names[label]))</td><td>\(HTML.escape(names[predicted]))</td>"
        + "<td class=\"n\">\(grouped(images)) of \(grouped(all))</td></tr>"
    }
    return "<div class=\"scroll\"><table><tr><th>class</th><th>given</th><th class=\"n\">images</th></tr>"
      + "\(rows.joined())</table></div>"
  }
}
