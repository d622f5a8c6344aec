/// The images of a data set that a stage trains on, with the labels that it may see. Samples are numbered anew.
package final class TrainingImages: ImageSource {
  private let data: DataSet
  /// The images, as samples of the set; nil for all of them.
  private let samples: [Int]?
  /// By sample of the set: whether its label may be seen; nil where none may.
  private let seen: [Bool]?

  /// Images without labels.
  package init(_ data: DataSet) {
    self.data = data
    samples = nil
    seen = nil
  }

  /// - Parameter only: whether only images with a label are trained on, not all but those for validation.
  package init(_ data: DataSet, _ selection: LabelSelection, only: Bool) {
    self.data = data
    var seen = [Bool](repeating: false, count: data.count)
    for sample in selection.training { seen[sample] = true }
    self.seen = seen
    let held = Set(selection.validation)
    if only {
      samples = selection.training.count == data.count ? nil : selection.training
    } else {
      samples = held.isEmpty ? nil : (0..<data.count).filter { !held.contains($0) }
    }
  }

  /// The sample of the set.
  package func original(_ sample: Int) -> Int { samples?[sample] ?? sample }

  package var count: Int { samples?.count ?? data.count }
  package var channels: Int { data.channels }
  package var mean: [Double] { data.mean }
  package var deviation: [Double] { data.deviation }

  package func record(_ sample: Int) -> ImageRecord {
    let original = original(sample)
    var record = data.record(original)
    if seen?[original] != true { record.label = -1 }
    return record
  }

  package func name(_ sample: Int) -> String { data.name(original(sample)) }

  /// Of a selection, images are read one by one: their neighbours are others than the set's.
  package func neighbours(of sample: Int) -> Range<Int> {
    samples == nil ? data.neighbours(of: sample) : sample..<sample + 1
  }

  package func fetch(_ samples: Range<Int>, into bytes: inout [UInt8]) throws {
    precondition(self.samples == nil || samples.count == 1, "\(samples.count) images of a selection at once")
    let first = original(samples.lowerBound)
    try data.fetch(first..<first + samples.count, into: &bytes)
  }
}
