import Foundation
import Shards

/// What `apus inspect` says of a data set.
func describe(_ set: DataSet) -> String {
  let records = (0..<set.count).map(set.record)
  var lines = [summary(set)]
  lines.append("mean         \(numbers(set.mean))")
  lines.append("deviation    \(numbers(set.deviation))")
  lines.append("fingerprint  \(Fingerprint.text(set.fingerprint))")
  lines.append("stored as    " + counts(records.map(encoding)))
  lines.append("width        " + range(records.map(\.width)))
  lines.append("height       " + range(records.map(\.height)))
  lines.append("bytes        " + range(records.map(\.length)))
  let turned = records.filter { $0.orientation != 1 }.count
  if turned > 0 { lines.append("turned       \(turned) by EXIF orientation") }
  lines.append("\n  shard             first    images       bytes")
  for shard in set.shards {
    let name = shard.path.split(separator: "/").last.map(String.init) ?? shard.path
    lines.append(
      "  " + name.padding(toLength: 16, withPad: " ", startingAt: 0)
        + [shard.samples.lowerBound, shard.samples.count].map { String(format: "%8d", $0) }.joined(separator: "  ")
        + "  " + String(format: "%10d", shard.byteCount))
  }
  if !set.classNames.isEmpty { lines.append(classes(set, records)) }
  return lines.joined(separator: "\n")
}

private func classes(_ set: DataSet, _ records: [ImageRecord]) -> String {
  var counts = [Int](repeating: 0, count: set.classNames.count)
  var unlabelled = 0
  for record in records {
    if record.label >= 0 { counts[Int(record.label)] += 1 } else { unlabelled += 1 }
  }
  let most = 100
  var lines = ["\n   images  class"]
  for (name, count) in zip(set.classNames, counts).prefix(most) { lines.append(String(format: "%9d  ", count) + name) }
  if counts.count > most { lines.append("           and \(counts.count - most) more") }
  if unlabelled > 0 { lines.append(String(format: "%9d  ", unlabelled) + "(no label)") }
  return lines.joined(separator: "\n")
}

private func encoding(_ record: ImageRecord) -> String {
  switch record.encoding {
  case .raw: return "raw \(record.depth)-bit \(record.channels)-channel"
  case .jpeg:
    return ["JPEG", "grey JPEG", "RGB JPEG", "YCbCr JPEG", "CMYK JPEG", "YCCK JPEG"][min(Int(record.colour), 5)]
  }
}

private func counts(_ names: [String]) -> String {
  var counts: [String: Int] = [:]
  for name in names { counts[name, default: 0] += 1 }
  return counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.value) \($0.key)" }.joined(
    separator: ", ")
}

private func range(_ values: [Int]) -> String {
  let sorted = values.sorted()
  guard let first = sorted.first, let last = sorted.last else { return "-" }
  return first == last ? "\(first)" : "\(first) ... \(last), median \(sorted[sorted.count / 2])"
}
