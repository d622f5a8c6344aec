import Threading

/// Images of a source in memory, each as a shard would store it: they can be fed to an encoder without being packed.
package final class ImportedImages: ImageSource, @unchecked Sendable {
  package let count: Int
  package let channels: Int
  private let keys: [String]
  private let images: [ImageImporter.Imported]
  /// By image: why it could not be read; nil where it could, and where it was not asked for.
  package let faults: [ImageError?]

  /// Values are not normalised.
  package var mean: [Double] { Array(repeating: 0, count: channels) }
  package var deviation: [Double] { Array(repeating: 1, count: channels) }

  /// - Parameters:
  ///   - listed: of the source's images.
  ///   - wanted: of these, which are read, counted from 0. The others, and those that cannot be read, are a black
  ///     pixel.
  ///   - channels: of a decoded image.
  package init(
    _ source: any PackSource, _ listed: ArraySlice<SourceImage>, wanted: Range<Int>, channels: Int, _ team: ThreadTeam
  ) {
    count = listed.count
    self.channels = channels
    keys = listed.map(\.key.text)
    let none = ImageImporter.Imported(
      record: ImageRecord(length: channels, width: 1, height: 1, channels: channels, encoding: .raw, colour: 0),
      bytes: Array(repeating: 0, count: channels), sums: ChannelSums(channels: channels))
    var images = [ImageImporter.Imported](repeating: none, count: count)
    var faults = [ImageError?](repeating: nil, count: count)
    images.withUnsafeMutableBufferPointer { images in
      faults.withUnsafeMutableBufferPointer { faults in
        team.run(wanted.count) { block, _ in
          let i = wanted.lowerBound + block
          var importer = ImageImporter(channels: channels)
          do throws(ImageError) {
            images[i] = try importer.take(try source.contents(of: listed[listed.startIndex + i]))
          } catch { faults[i] = error }
        }
      }
    }
    self.images = images
    self.faults = faults
  }

  package func record(_ sample: Int) -> ImageRecord { images[sample].record }
  package func name(_ sample: Int) -> String { keys[sample] }
  package func neighbours(of sample: Int) -> Range<Int> { sample..<sample + 1 }

  package func fetch(_ samples: Range<Int>, into bytes: inout [UInt8]) {
    bytes = samples.flatMap { images[$0].bytes }
  }
}
