import Shards

/// Labelled images of a set, with their labels in the classes of a training set: classes are the same where their names
/// are, whatever their order.
package struct LabelledImages {
  package let set: DataSet
  package let samples: [Int]
  /// Of each sample, an index of the training set's class names.
  package let labels: [Int32]
  /// Labelled images of the set in all.
  package let labelledCount: Int
  /// Classes of labelled images that the training set has not; their images are left out.
  package let unknown: [String]

  /// - Parameters:
  ///   - classes: names of the training set's classes.
  ///   - limit: images that are taken at most, evenly spread over the set; nil for all.
  package init(_ set: DataSet, classes: [String], limit: Int? = nil) {
    let numbers = Dictionary(classes.enumerated().map { ($1, Int32($0)) }, uniquingKeysWith: { first, _ in first })
    let known = set.classNames.map { numbers[$0] }
    var counts = [Int](repeating: 0, count: set.classNames.count)
    for sample in 0..<set.count {
      if let label = set.label(sample), counts.indices.contains(label) { counts[label] += 1 }
    }
    let usable = counts.indices.reduce(0) { known[$1] == nil ? $0 : $0 + counts[$1] }
    let taken = min(limit ?? usable, usable)
    var samples: [Int] = []
    var labels: [Int32] = []
    samples.reserveCapacity(taken)
    labels.reserveCapacity(taken)
    var place = 0
    for sample in 0..<set.count where samples.count < taken {
      guard let own = set.label(sample), known.indices.contains(own), let label = known[own] else { continue }
      if place == samples.count * usable / taken {
        samples.append(sample)
        labels.append(label)
      }
      place += 1
    }
    self.set = set
    self.samples = samples
    self.labels = labels
    labelledCount = counts.reduce(0, +)
    unknown = counts.indices.filter { known[$0] == nil && counts[$0] > 0 }.map { set.classNames[$0] }
  }

  /// Some labelled images of a set, with their own labels.
  package init(_ set: DataSet, samples: [Int]) {
    self.set = set
    self.samples = samples
    labels = samples.map { Int32(set.label($0) ?? -1) }
    labelledCount = samples.count
    unknown = []
  }

  package var count: Int { samples.count }
  package var isEmpty: Bool { samples.isEmpty }
}

/// Names in a sentence, the first few of many: `a`, `b` and 7 others.
func listed(_ names: [String]) -> String {
  let shown = names.prefix(5).map { "`\($0)`" }
  return names.count > 5
    ? shown.joined(separator: ", ") + " and \(names.count - 5) others" : shown.joined(separator: ", ")
}
