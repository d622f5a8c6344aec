import Files

/// Images that are stored byte for byte alike. Candidates are found by checksum and length in the index, so a set
/// without any costs no reading.
package struct Duplicates {
  /// Images that another one equals.
  package private(set) var count = 0
  /// Names of the first such image and of the one it equals.
  package private(set) var example: (copy: String, original: String)?

  /// Images of a set that equal an earlier one of the same set.
  package static func within(_ set: DataSet) throws -> Duplicates { try Duplicates(set, set) }

  /// Images of a set that equal one of another set.
  package static func of(_ set: DataSet, in other: DataSet) throws -> Duplicates { try Duplicates(set, other) }

  private struct Entry {
    let key: UInt64
    let sample: Int
  }

  /// A set's samples by checksum and length, then by number.
  private static func entries(_ set: DataSet) -> [Entry] {
    let entries = (0..<set.count).map { sample in
      let record = set.record(sample)
      let length = UInt64(UInt32(truncatingIfNeeded: record.length))
      return Entry(key: UInt64(record.checksum) << 32 | length, sample: sample)
    }
    return entries.sorted { ($0.key, $0.sample) < ($1.key, $1.sample) }
  }

  private init(_ set: DataSet, _ other: DataSet) throws {
    let isOne = set === other
    let copies = Self.entries(set)
    let originals = isOne ? copies : Self.entries(other)
    var first = 0
    var start = 0
    while start < copies.count {
      let key = copies[start].key
      let end = copies[start...].firstIndex { $0.key != key } ?? copies.count
      while first < originals.count, originals[first].key < key { first += 1 }
      let last = originals[first...].firstIndex { $0.key != key } ?? originals.count
      let isCandidate = isOne ? end - start > 1 : last > first
      if isCandidate { try compare(copies[start..<end], set, originals[first..<last], other) }
      first = last
      start = end
    }
  }

  /// Counts the samples of a group that really equal one of the others.
  private mutating func compare(
    _ copies: ArraySlice<Entry>, _ set: DataSet, _ originals: ArraySlice<Entry>, _ other: DataSet
  ) throws {
    try Interruption.check()
    var distinct: [(sample: Int, image: Image)] = []
    if set !== other {
      for entry in originals {
        let image = try Image(other, entry.sample)
        if !distinct.contains(where: { $0.image == image }) { distinct.append((entry.sample, image)) }
      }
    }
    for entry in copies {
      let image = try Image(set, entry.sample)
      if let original = distinct.first(where: { $0.image == image }) {
        count += 1
        if example == nil { example = (try set.key(entry.sample), try other.key(original.sample)) }
      } else if set === other {
        distinct.append((entry.sample, image))
      }
    }
  }

  /// What two equal images share.
  private struct Image: Equatable {
    let width: Int, height: Int, bytes: [UInt8]

    init(_ set: DataSet, _ sample: Int) throws(FileError) {
      let record = set.record(sample)
      var bytes: [UInt8] = []
      try set.read(sample, into: &bytes)
      width = record.width
      height = record.height
      self.bytes = Array(bytes.prefix(record.length))
    }
  }
}
