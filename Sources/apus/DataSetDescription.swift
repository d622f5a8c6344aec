import Foundation
import Shards

/// A summary of a data set in one line.
func summary(_ set: DataSet) -> String {
  let bytes = set.shards.reduce(0) { $0 + $1.byteCount }
  let classes = set.classNames.isEmpty ? "no classes" : "\(set.classNames.count) classes"
  let shards = set.shards.count == 1 ? "1 shard" : "\(set.shards.count) shards"
  let channels = set.channels == 1 ? "1 channel" : "\(set.channels) channels"
  return "\(set.path): \(set.count) images, \(channels), \(classes), \(byteText(bytes)) in \(shards)"
}

func numbers(_ values: [Double]) -> String {
  values.map { String(format: "%.4f", $0) }.joined(separator: " ")
}

/// The description that `apus inspect` prints of a data set.
func describe(_ set: DataSet) -> String {
  let figures = Figures(set)
  var lines = [summary(set)]
  lines.append("mean         \(numbers(set.mean))")
  lines.append("deviation    \(numbers(set.deviation))")
  lines.append("fingerprint  \(Fingerprint.text(set.fingerprint))")
  lines.append("stored as    \(figures.encodings)")
  lines.append("width        \(range(figures.widths))")
  lines.append("height       \(range(figures.heights))")
  lines.append("bytes        \(range(figures.lengths))")
  if figures.turned > 0 { lines.append("turned       \(figures.turned) by EXIF orientation") }
  lines.append("\n  shard             first    images       bytes")
  for shard in set.shards {
    let name = shard.path.split(separator: "/").last.map(String.init) ?? shard.path
    lines.append(
      "  " + name.padding(toLength: 16, withPad: " ", startingAt: 0) + right(shard.samples.lowerBound, 8) + "  "
        + right(shard.samples.count, 8) + "  " + right(shard.byteCount, 10))
  }
  if !set.classNames.isEmpty { lines.append(classes(set, figures)) }
  return lines.joined(separator: "\n")
}

/// Counts of one pass over the index.
private struct Figures {
  private struct Kind: Hashable {
    let encoding: Encoding, depth: Int, channels: Int, colour: UInt8

    var words: String {
      switch encoding {
      case .raw: return "raw \(depth)-bit \(channels)-channel"
      case .jpeg:
        return ["JPEG", "grey JPEG", "RGB JPEG", "YCbCr JPEG", "CMYK JPEG", "YCCK JPEG"][min(Int(colour), 5)]
      }
    }
  }

  private var kinds: [Kind: Int] = [:]
  private(set) var widths: [Int32] = []
  private(set) var heights: [Int32] = []
  private(set) var lengths: [Int] = []
  private(set) var turned = 0
  /// Number of images of each class.
  private(set) var classes: [Int]
  private(set) var unlabelled = 0

  init(_ set: DataSet) {
    classes = [Int](repeating: 0, count: set.classNames.count)
    for sample in 0..<set.count {
      let record = set.record(sample)
      let kind = Kind(
        encoding: record.encoding, depth: record.depth, channels: record.channels, colour: record.colour)
      kinds[kind, default: 0] += 1
      widths.append(Int32(record.width))
      heights.append(Int32(record.height))
      lengths.append(record.length)
      if record.orientation != 1 { turned += 1 }
      if record.label >= 0 { classes[Int(record.label)] += 1 } else { unlabelled += 1 }
    }
  }

  var encodings: String {
    var counts: [String: Int] = [:]
    for (kind, count) in kinds { counts[kind.words, default: 0] += count }
    return counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.value) \($0.key)" }
      .joined(separator: ", ")
  }
}

private func classes(_ set: DataSet, _ figures: Figures) -> String {
  let most = 100
  var lines = ["\n   images  class"]
  for (name, count) in zip(set.classNames, figures.classes).prefix(most) { lines.append(right(count, 9) + "  " + name) }
  if set.classNames.count > most { lines.append("           and \(set.classNames.count - most) more") }
  if figures.unlabelled > 0 { lines.append(right(figures.unlabelled, 9) + "  (no label)") }
  return lines.joined(separator: "\n")
}

/// A right-aligned number. (`String(format: "%d")` would read only 32 bits of it.)
private func right(_ number: Int, _ width: Int) -> String {
  let text = String(number)
  return String(repeating: " ", count: max(0, width - text.count)) + text
}

private func range<Number: FixedWidthInteger>(_ values: [Number]) -> String {
  let sorted = values.sorted()
  guard let first = sorted.first, let last = sorted.last else { return "-" }
  return first == last ? "\(first)" : "\(first) ... \(last), median \(sorted[sorted.count / 2])"
}
