/// Features of a set of images, and their labels: the whole table on every rank.
package struct FeatureTable: Sendable {
  /// (count, dimension), row-major.
  package let features: [Float]
  /// (count), each in 0 ..< classCount.
  package let labels: [Int32]
  package let classCount: Int

  /// - Parameters:
  ///   - features: (count, dimension), row-major; `labels` gives the count.
  ///   - labels: (count).
  package init(features: [Float], labels: [Int32], classCount: Int) {
    precondition(
      labels.isEmpty ? features.isEmpty : features.count % labels.count == 0,
      "\(features.count) numbers for \(labels.count) rows of features")
    self.features = features
    self.labels = labels
    self.classCount = classCount
  }

  package var count: Int { labels.count }
  package var dimension: Int { labels.isEmpty ? 0 : features.count / labels.count }

  /// Throws where a feature is not finite or a label names no class. All ranks hold the same table and come to the same
  /// verdict, so none waits for another.
  /// - Parameter name: what the table is called in the error, such as "training".
  package func check(_ name: String) throws(FeatureError) {
    guard count > 0, dimension > 0 else {
      throw FeatureError(name, "there are \(count) rows of \(dimension) features; at least one of each is needed")
    }
    guard classCount > 0 else { throw FeatureError(name, "there are no classes; an evaluation needs labels") }
    for (row, label) in labels.enumerated() where !(0..<Int32(classCount)).contains(label) {
      throw FeatureError(
        name,
        label < 0
          ? "row \(row) has no label; evaluate on a data set in which every image has one"
          : "row \(row) has label \(label), expected 0 ... \(classCount - 1)")
    }
    let d = dimension
    let bad = features.withUnsafeBufferPointer { $0.firstIndex { !$0.isFinite } }
    if let bad {
      throw FeatureError(
        name,
        "row \(bad / d) holds \(features[bad]) at feature \(bad % d), expected finite numbers; the encoder's "
          + "weights are likely not finite, take an earlier checkpoint")
    }
  }

  /// Images of each class.
  var classSizes: [Int] {
    var sizes = [Int](repeating: 0, count: classCount)
    for label in labels { sizes[Int(label)] += 1 }
    return sizes
  }
}

/// Features that cannot be evaluated.
package struct FeatureError: Error, CustomStringConvertible {
  package let description: String
  init(_ name: String, _ problem: String) { description = "cannot evaluate the \(name) features: \(problem)" }
}
