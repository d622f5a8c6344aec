import Files

/// What becomes of a source's classes in the data set: they stay, or are mapped by name to those of another set.
struct ClassMap {
  /// Of the data set.
  let classNames: [String]
  /// Label in the data set by label in the source.
  private let labels: [Int32]

  /// The source's own classes.
  init(_ listing: SourceListing) {
    classNames = listing.classNames.map(\.text)
    labels = Array(0..<Int32(classNames.count))
  }

  /// Those of another set.
  /// - Parameter allowsUnknown: images of a class that the set has not lose their label.
  /// - Throws: where it has not and that is not allowed, with all such classes.
  init(_ listing: SourceListing, like set: DataSet, allowsUnknown: Bool) throws(FileError) {
    let order = Dictionary(
      zip(set.classNames.map { Name($0) }, Int32(0)...), uniquingKeysWith: { first, _ in first })
    let labels = listing.classNames.map { order[Name($0.text)] ?? -1 }
    let used = Set(listing.images.map(\.label))
    let unknown = labels.indices.filter { labels[$0] < 0 && used.contains(Int32($0)) }
    if !unknown.isEmpty, !allowsUnknown {
      let names = unknown.prefix(10).map { listing.classNames[$0].text }.joined(separator: ", ")
      let more = unknown.count > 10 ? " and \(unknown.count - 10) more" : ""
      throw FileError(
        set.path, "pack like",
        "the source has classes that it has not: \(names)\(more). Name them alike, leave them out, or add "
          + "--unknown-classes unlabelled")
    }
    self.labels = labels
    classNames = set.classNames
  }

  /// - Parameter label: of the source, -1 for none.
  func label(_ label: Int32) -> Int32 { label < 0 ? -1 : labels[Int(label)] }
}
