import Files

/// Cuts the lines of a list into path and label.
///
/// A line is a path and, behind a tab, a comma or its last space, a label. Commas count in a list whose name ends in
/// `.csv`, whose first line is a CSV header, or that has a file's path before a line's first comma; there, fields may
/// be quoted (RFC 4180, within a line). Whether a space belongs to a path shows in which files there are.
struct ListRow {
  /// What a header calls the columns.
  private static let pathWords: Set<String> = [
    "path", "paths", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "img_path",
    "image_name", "image_file", "name",
  ]
  private static let labelWords: Set<String> = [
    "label", "labels", "class", "class_name", "classname", "category", "target", "class_id", "label_id", "y",
  ]

  let path: Name
  let label: Name?
  /// For messages, from 1.
  let line: Int

  /// A line that is neither blank nor a comment.
  private struct Line {
    let number: Int, bytes: ArraySlice<UInt8>
  }

  /// Where a table has what.
  private struct Columns {
    var path = 0
    var label: Int? = 1
    /// Whether a header says so.
    var named = false
  }

  /// All rows of a list but its header.
  /// - Parameter isThere: whether a path is that of a file.
  static func rows(
    _ text: [UInt8], list: String, isThere: (Name) -> Bool
  ) throws -> [ListRow] {
    var lines = self.lines(text)
    guard let first = lines.first else { return [] }
    if isCSV(lines, list, isThere) {
      let header = columns(try csv(first, list))
      if header != nil { lines.removeFirst() }
      return try lines.map { try row(try csv($0, list), $0, header ?? Columns(), list) }
    }
    let header = columns(tabs(first))
    let isHeader = header != nil || isLoneHeader(first) && !isThere(Name(first.bytes))
    if isHeader { lines.removeFirst() }
    return try spaced(lines, header ?? Columns(), list, isThere)
  }

  private static func lines(_ text: [UInt8]) -> [Line] {
    let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
    let body = text.starts(with: mark) ? text[mark.count...] : text[...]
    var lines: [Line] = []
    for (index, line) in body.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
      let bytes = trimmed(line, [UInt8(ascii: " "), UInt8(ascii: "\r")])
      if bytes.isEmpty || bytes.first == UInt8(ascii: "#") { continue }
      lines.append(Line(number: index + 1, bytes: bytes))
    }
    return lines
  }

  private static func trimmed(_ bytes: ArraySlice<UInt8>, _ blanks: Set<UInt8>) -> ArraySlice<UInt8> {
    let rest = bytes.drop(while: blanks.contains)
    let end = rest.lastIndex { !blanks.contains($0) }.map { $0 + 1 } ?? rest.startIndex
    return rest[..<end]
  }

  private static func isCSV(_ lines: [Line], _ list: String, _ isThere: (Name) -> Bool) -> Bool {
    if list.lowercased().hasSuffix(".csv") { return true }
    for line in lines.prefix(100) where line.bytes.contains(UInt8(ascii: ",")) {
      let isOther = line.bytes.contains(UInt8(ascii: "\t")) || isThere(Name(line.bytes))
      if isOther { continue }
      // A quotation mark that is not closed is none in a list of another kind.
      guard let fields = try? csv(line, list) else { continue }
      let isHeader = line.number == lines[0].number && columns(fields) != nil
      if isHeader || isThere(fields[0]) { return true }
    }
    return false
  }

  // MARK: Tables

  private static func tabs(_ line: Line) -> [Name] {
    line.bytes.split(separator: UInt8(ascii: "\t"), omittingEmptySubsequences: false)
      .map { Name(trimmed($0, [UInt8(ascii: " ")])) }
  }

  private static func csv(_ line: Line, _ list: String) throws(FileError) -> [Name] {
    let quote = UInt8(ascii: "\"")
    var fields: [Name] = []
    var field: [UInt8] = []
    var isQuoted = false
    var wasQuoted = false
    var at = line.bytes.startIndex
    func end() {
      fields.append(Name(wasQuoted ? field[...] : trimmed(field[...], [UInt8(ascii: " ")])))
      field = []
      wasQuoted = false
    }
    while at < line.bytes.endIndex {
      let byte = line.bytes[at]
      let next = at + 1 < line.bytes.endIndex ? line.bytes[at + 1] : 0
      if byte == quote, isQuoted, next == quote {
        field.append(quote)
        at += 1
      } else if byte == quote, isQuoted || field.isEmpty {
        isQuoted.toggle()
        wasQuoted = true
      } else if byte == UInt8(ascii: ","), !isQuoted {
        end()
      } else {
        field.append(byte)
      }
      at += 1
    }
    if isQuoted {
      throw FileError(list, "read", "line \(line.number) has a quotation mark that is not closed in the same line")
    }
    end()
    return fields
  }

  /// The columns that a header names; nil where this is no header.
  private static func columns(_ fields: [Name]) -> Columns? {
    let words = fields.map { $0.text.lowercased() }
    guard words.count > 1, let path = words.firstIndex(where: pathWords.contains) else { return nil }
    let label = words.indices.first { $0 != path && labelWords.contains(words[$0]) }
    if label == nil, words.count > 2 { return Columns(path: path, label: nil, named: true) }
    return Columns(path: path, label: label ?? 1 - path, named: true)
  }

  /// `path label` or `path`, in such words.
  private static func isLoneHeader(_ line: Line) -> Bool {
    let words = String(decoding: line.bytes, as: UTF8.self).lowercased().split(separator: " ").map(String.init)
    guard let first = words.first, pathWords.contains(first), words.count <= 2 else { return false }
    return words.count == 1 || labelWords.contains(words[1])
  }

  private static func row(
    _ fields: [Name], _ line: Line, _ columns: Columns, _ list: String
  ) throws(FileError) -> ListRow {
    guard columns.named || fields.count <= 2 else {
      throw FileError(
        list, "read",
        "line \(line.number) has \(fields.count) columns; name them in a first line, such as path,label, or keep two")
    }
    guard fields.indices.contains(columns.path) else {
      throw FileError(list, "read", "line \(line.number) has \(fields.count) columns, its path should be in the next")
    }
    let label = columns.label.flatMap { fields.indices.contains($0) ? fields[$0] : nil }
    return ListRow(path: fields[columns.path], label: label, line: line.number)
  }

  // MARK: Spaces

  private static func spaced(
    _ lines: [Line], _ columns: Columns, _ list: String, _ isThere: (Name) -> Bool
  ) throws -> [ListRow] {
    var rows: [ListRow] = []
    rows.reserveCapacity(lines.count)
    // Lines whose file is missing either way, decided when it is known what the others are like.
    var undecided: [Int] = []
    var labelled = 0
    var whole = 0
    for (index, line) in lines.enumerated() {
      if index % 1024 == 0 { try Interruption.check() }
      if line.bytes.contains(UInt8(ascii: "\t")) {
        rows.append(try row(tabs(line), line, columns, list))
        continue
      }
      let all = ListRow(path: Name(line.bytes), label: nil, line: line.number)
      rows.append(all)
      guard let cut = cut(line) else { continue }
      if isThere(all.path) {
        whole += 1
      } else if isThere(cut.path) {
        labelled += 1
        rows[index] = cut
      } else {
        undecided.append(index)
      }
    }
    if labelled > whole { for index in undecided { rows[index] = cut(lines[index])! } }
    return rows
  }

  /// Cut at the last space; nil without one.
  private static func cut(_ line: Line) -> ListRow? {
    let blank = UInt8(ascii: " ")
    guard let space = line.bytes.lastIndex(of: blank) else { return nil }
    let path = Name(trimmed(line.bytes[..<space], [blank]))
    return ListRow(path: path, label: Name(line.bytes[(space + 1)...]), line: line.number)
  }
}
