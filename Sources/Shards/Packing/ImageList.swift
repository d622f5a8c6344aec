import Foundation

/// A text file with an image a line: a path, then a tab (or the last space of the line) and a label where there is one.
/// Paths are relative to the list's folder. Labels that are all numbers stay those numbers; others are classes by name.
enum ImageList {
  private static let mostClasses = 1_000_000

  static func source(_ path: String, labelled: Bool) throws(ShardError) -> PackSource {
    guard let data = FileManager.default.contents(atPath: path), let text = String(data: data, encoding: .utf8) else {
      throw ShardError(path, "read", "it is no folder, no IDX file and no list in UTF-8 text")
    }
    let folder = path.contains("/") ? String(path[..<path.lastIndex(of: "/")!]) : "."
    func place(_ name: String) -> String { name.hasPrefix("/") ? name : folder + "/" + name }
    var source = PackSource(kind: "list", images: [])
    var labels: [String?] = []
    var seen: Set<String> = []
    for line in text.split(whereSeparator: \.isNewline) {
      let line = line.trimmingCharacters(in: .whitespaces)
      if line.isEmpty || line.hasPrefix("#") { continue }
      let (name, label) = split(line) { access(place($0), F_OK) == 0 }
      guard seen.insert(name).inserted else {
        source.rejected.append(.init(name, "the list names it twice"))
        continue
      }
      source.images.append(.init(key: name, label: -1, location: .file(place(name))))
      labels.append(labelled ? label : nil)
    }
    // A file of another kind passes for a list; its first "path" tells.
    if let first = source.images.first, source.images.allSatisfy({ !exists($0.location) }) {
      throw ShardError(
        path, "pack", "it is taken for a list of images, but none of them is there, such as \"\(first.key)\"")
    }
    try setLabels(labels, in: &source, path)
    return source
  }

  private static func exists(_ location: PackSource.Location) -> Bool {
    if case .file(let path) = location { return access(path, F_OK) == 0 }
    return true
  }

  private static func split(_ line: String, exists: (String) -> Bool) -> (String, String?) {
    if let tab = line.lastIndex(of: "\t") {
      return (line[..<tab].trimmingCharacters(in: .whitespaces), String(line[line.index(after: tab)...]))
    }
    guard let space = line.lastIndex(of: " "), !exists(line) else { return (line, nil) }
    return (line[..<space].trimmingCharacters(in: .whitespaces), String(line[line.index(after: space)...]))
  }

  private static func setLabels(_ labels: [String?], in source: inout PackSource, _ path: String) throws(ShardError) {
    let known = labels.compactMap { $0 }
    if known.isEmpty { return }
    let numbers = known.compactMap { Int32($0) }.filter { $0 >= 0 }
    if numbers.count == known.count, let most = numbers.max() {
      guard most < mostClasses else { throw ShardError(path, "pack", "label \(most) is larger than \(mostClasses)") }
      source.classNames = (0...most).map(String.init)
      for (i, label) in labels.enumerated() { source.images[i].label = label.flatMap { Int32($0) } ?? -1 }
      return
    }
    source.classNames = Set(known).sorted()
    let order = Dictionary(uniqueKeysWithValues: zip(source.classNames, Int32(0)...))
    for (i, label) in labels.enumerated() { source.images[i].label = label.flatMap { order[$0] } ?? -1 }
  }
}
