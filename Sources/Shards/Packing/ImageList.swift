import Files

/// A text file with an image a line; `ListRow` says how a line is read. Paths are relative to `SourceOptions.root`, or
/// to the list's folder.
///
/// An empty label and `-1` mean none. Labels that are all whole numbers stay those numbers; others are classes by name.
/// A line whose file is missing is listed and makes no class.
struct ImageList: PackSource {
  static let help =
    "a text file with a path a line and, after a tab, a comma (.csv) or a space, a label"
  static let options: Set<SourceOption> = [.root]
  private static let mostClasses = 1_000_000

  private let root: Name
  private(set) var listing = SourceListing(kind: "list")

  static func recognises(_ path: SourcePath) -> Bool {
    !path.isFolder && !path.start.contains(0) && ImageFormats.name(path.start) == nil
      && !UnpackableFile.isKnown(path.start)
  }

  init(_ path: String, _ options: SourceOptions) throws {
    root = Name(options.root ?? Staging.parent(path))
    let text: [UInt8]
    do { text = try ImageFile.contents(Name(path)) } catch { throw FileError(path, "read", error.reason) }
    let rows = try ListRow.rows(text, list: path) { [root] path in
      (try? ImageFile.check(root.appending(path))) != nil
    }
    let labels = try take(rows)
    if listing.images.isEmpty, let first = rows.first {
      throw FileError(
        path, "pack",
        "it is taken for a list of \(rows.count) images, but none of them is there: \"\(first.path)\" was looked for "
          + "at \(root.appending(first.path)). A line is a path, and after a tab, a comma (.csv) or a space a label; "
          + "paths start from the list's folder, or from --root")
    }
    if options.labelled { try setLabels(labels, path) }
  }

  /// Keeps the rows whose file is there.
  /// - Returns: their labels, nil for none.
  private mutating func take(_ rows: [ListRow]) throws -> [ListRow] {
    var taken: [ListRow] = []
    var seen: Set<Name> = []
    for (index, row) in rows.enumerated() {
      if index % 1024 == 0 { try Interruption.check() }
      guard seen.insert(row.path).inserted else {
        listing.rejected.append(Rejected(row.path.text, "the list names it twice"))
        continue
      }
      do throws(ImageError) {
        try ImageFile.check(root.appending(row.path))
        listing.images.append(SourceImage(key: row.path, label: -1, number: taken.count))
        taken.append(row)
      } catch { listing.rejected.append(Rejected(row.path.text, error.reason)) }
    }
    return taken
  }

  private static func isNone(_ label: Name?) -> Bool { label == nil || label == "" || label == "-1" }

  private mutating func setLabels(_ rows: [ListRow], _ path: String) throws(FileError) {
    let known = rows.filter { !Self.isNone($0.label) }
    if known.isEmpty { return }
    if known.allSatisfy({ Self.isWhole($0.label!) }) { return try setNumbers(rows, path) }
    let names = Set(known.map { $0.label! }).sorted { a, b in
      guard let x = Int(a.text), let y = Int(b.text) else { return a < b }
      return (x, a) < (y, b)
    }
    let order = Dictionary(uniqueKeysWithValues: zip(names, Int32(0)...))
    listing.classNames = names
    for (index, row) in rows.enumerated() where !Self.isNone(row.label) {
      listing.images[index].label = order[row.label!]!
    }
  }

  /// An optional sign and digits, however many.
  private static func isWhole(_ label: Name) -> Bool {
    let digits = label.bytes.first == UInt8(ascii: "-") ? label.bytes.dropFirst() : label.bytes[...]
    return !digits.isEmpty && digits.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
  }

  private mutating func setNumbers(_ rows: [ListRow], _ path: String) throws(FileError) {
    var most = 0
    for (index, row) in rows.enumerated() where !Self.isNone(row.label) {
      guard let number = Int(row.label!.text), (0..<Self.mostClasses).contains(number) else {
        throw FileError(
          path, "pack",
          "line \(row.line) has the label \(row.label!); labels that are numbers must be 0 to \(Self.mostClasses - 1), "
            + "or -1 for none: number the classes anew, or name them (c\(row.label!))")
      }
      listing.images[index].label = Int32(number)
      most = max(most, number)
    }
    listing.classNames = (0...most).map { Name(String($0)) }
  }

  func contents(of image: SourceImage) throws(ImageError) -> ImageContents {
    .file(try ImageFile.contents(root.appending(image.key)))
  }
}
