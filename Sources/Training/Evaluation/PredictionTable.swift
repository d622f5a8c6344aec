import Engine
import Foundation
import Ranks
import Shards

/// The classes of any number of images as a table of comma-separated values: file, class, and the probability of each
/// class. A block of images is in memory at a time.
package struct PredictionTable {
  /// Images of a block.
  private static let block = 512

  private let classNames: [String]
  private let extractor: FeatureExtractor
  private let channels: Int
  private var context: Context { extractor.context }

  /// - Parameter name: where the encoder is from, for messages.
  /// - Throws: `RunError` where the encoder tells no classes.
  package init(_ encoder: FrozenEncoder, _ name: String, context: Context) throws(RunError) {
    guard let tap = encoder.classScores, !encoder.classNames.isEmpty else {
      throw RunError(
        "\(name) tells no classes: stage \(encoder.stage.name) was trained without labels; train a classifier with "
          + "apus finetune \(name)")
    }
    classNames = encoder.classNames
    channels = encoder.input.imageChannels
    extractor = FeatureExtractor([encoder.sources[0].tapped(at: tap)], context: context)
  }

  /// The table's first line.
  private var header: String { Self.line(["file", "class"] + classNames) }

  /// The classes of a packed data set's images.
  /// - Parameter print: gets each line in turn, on every rank.
  package func predict(_ data: DataSet, _ print: (String) -> Void) throws {
    guard data.channels == channels else {
      throw RunError(
        "\(data.path) has images of \(data.channels) channels, the encoder takes \(channels): pack them with "
          + "--channels \(channels)")
    }
    print(header)
    for first in stride(from: 0, to: data.count, by: Self.block) {
      let samples = Array(first..<min(data.count, first + Self.block))
      let predictions = try Predictions(of: data, samples, by: extractor)
      for (row, sample) in samples.enumerated() { print(line(try data.key(sample), predictions, row)) }
    }
  }

  /// The classes of images that are not packed. What cannot be read is left out.
  /// - Parameters:
  ///   - print: gets each line in turn, on every rank.
  ///   - leftOut: gets the file and the reason, on the rank that met it.
  /// - Returns: how many were left out.
  package func predict(
    _ source: any PackSource, _ print: (String) -> Void, leftOut: (_ file: String, _ reason: String) -> Void
  ) throws -> Int {
    guard channels == 1 || channels == 3 else {
      throw RunError("the encoder takes images of \(channels) channels, files have 1 or 3: pack the images")
    }
    print(header)
    // A walk of a folder finds its files in another order on another host.
    let images = source.listing.images.sorted { $0.key < $1.key }
    let communicator = context.communicator
    if communicator.isRoot { for bad in source.listing.rejected { leftOut(bad.key, bad.reason) } }
    var bad = source.listing.rejected.count
    for first in stride(from: 0, to: images.count, by: Self.block) {
      let block = images[first..<min(images.count, first + Self.block)]
      let mine = share(of: block.count, rank: communicator.rank, ranks: communicator.size)
      let imported = ImportedImages(source, block, wanted: mine, channels: channels, context.team)
      var faults = imported.faults.map { Int64($0 == nil ? 0 : 1) }
      faults.withUnsafeMutableBufferPointer { communicator.allReduce($0, .sum, on: .control, "files left out") }
      let predictions = try Predictions(of: imported, Array(0..<block.count), by: extractor)
      for row in 0..<block.count {
        if let fault = imported.faults[row] { leftOut(imported.name(row), fault.reason) }
        if faults[row] == 0 { print(line(imported.name(row), predictions, row)) } else { bad += 1 }
      }
    }
    return bad
  }

  private func line(_ file: String, _ predictions: Predictions, _ row: Int) -> String {
    let values = predictions[row].map { String(format: "%.6g", $0) }
    return Self.line([file, classNames[predictions.predicted(row)]] + values)
  }

  /// RFC 4180: a field with a comma, a quote or a line break stands in quotes.
  private static func line(_ fields: [String]) -> String {
    fields.map { field in
      let isPlain = !field.contains { $0 == "," || $0 == "\"" || $0.isNewline }
      return isPlain ? field : "\"" + field.replacing("\"", with: "\"\"") + "\""
    }.joined(separator: ",")
  }
}
