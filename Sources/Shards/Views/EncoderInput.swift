import Foundation
import Synchronization
import Threading

/// What an encoder is fed, in numbers: the square that is cut from an image, and how its values are normalised.
///
/// A stage resolves it once, from its recipe and its training set. The monitor, every evaluation and every export use
/// it whatever set they read, so no set is ever normalised by its own statistics.
package struct EncoderInput: Codable, Equatable, Sendable {
  /// Side in pixels.
  package var size: Int
  /// The shorter side is resized to size · margin before the central square is cut (8/7: 256 for 224); 0 squeezes the
  /// whole image into the square.
  package var margin: Double
  package var interpolation: Interpolation
  /// How its channels are made from those of the image, one after the other; empty where it takes them as they are.
  package var selections: [Channels] = []
  /// Channels of the images that it is made from.
  package var imageChannels: Int
  /// Subtracted from values in [0, 1], by channel.
  package var mean: [Double]
  /// What is left is divided by it, by channel.
  package var deviation: [Double]

  /// Channels that the encoder takes.
  package var channels: Int { mean.count }

  /// - Parameters:
  ///   - margin: nil for 0 up to 64 pixels, where images are small and centred already, else 8/7.
  ///   - mean, deviation: one for each channel.
  package init(
    size: Int, margin: Double? = nil, interpolation: Interpolation = .bilinear, mean: [Double], deviation: [Double]
  ) {
    precondition(mean.count == deviation.count, "\(mean.count) means, \(deviation.count) deviations")
    self.size = size
    self.margin = margin ?? (size <= 64 ? 0 : 8.0 / 7)
    self.interpolation = interpolation
    imageChannels = mean.count
    self.mean = mean
    self.deviation = deviation
  }

  /// Values as they are, in [0, 1].
  package init(size: Int, margin: Double? = nil, channels: Int) {
    self.init(
      size: size, margin: margin, mean: Array(repeating: 0, count: channels),
      deviation: Array(repeating: 1, count: channels))
  }

  /// The input of an encoder that trains on such views.
  /// - Parameters:
  ///   - mean, deviation: of the training set, for views that are normalised by them; one for each of its channels.
  package init(_ view: ViewRecipe, mean: [Double], deviation: [Double]) {
    self.init(size: view.size, channels: view.channels(of: mean.count))
    imageChannels = mean.count
    selections = view.selections
    if case .explicit(let mean, let deviation) = view.resolved(mean: mean, deviation: deviation).normalise {
      self.mean = mean
      self.deviation = deviation
    }
  }

  private enum CodingKeys: String, CodingKey {
    case size, margin, interpolation, selections = "channels", imageChannels, mean, deviation
  }

  package init(from decoder: any Swift.Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    size = try values.decode(Int.self, forKey: .size)
    margin = try values.decode(Double.self, forKey: .margin)
    interpolation = try values.decode(Interpolation.self, forKey: .interpolation)
    mean = try values.decode([Double].self, forKey: .mean)
    deviation = try values.decode([Double].self, forKey: .deviation)
    selections = try values.decodeIfPresent([Channels].self, forKey: .selections) ?? []
    imageChannels = try values.decodeIfPresent(Int.self, forKey: .imageChannels) ?? mean.count
    guard (1...4096).contains(size), margin == 0 || (1...10).contains(margin), (1...64).contains(mean.count),
      mean.count == deviation.count, mean.allSatisfy(\.isFinite), deviation.allSatisfy({ $0.isFinite && $0 > 0 }),
      selected(of: imageChannels) == channels
    else {
      throw decoder.invalid(
        "an encoder's input has a size of 1 to 4096 pixels, a margin of 0 or 1 to 10, and for each of 1 to 64 channels "
          + "a mean and a deviation above 0")
    }
  }

  package func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(size, forKey: .size)
    try values.encode(margin, forKey: .margin)
    try values.encode(interpolation, forKey: .interpolation)
    try values.encode(mean, forKey: .mean)
    try values.encode(deviation, forKey: .deviation)
    guard !selections.isEmpty else { return }
    try values.encode(selections, forKey: .selections)
    try values.encode(imageChannels, forKey: .imageChannels)
  }

  /// Channels that are left of so many.
  private func selected(of channels: Int) -> Int {
    selections.reduce(Array(0..<max(0, min(channels, 64)))) { $1.channels(of: $0) }.count
  }

  /// One line of JSON, its keys sorted.
  package var json: String {
    get throws {
      let encoder = JSONEncoder()
      encoder.outputFormatting = .sortedKeys
      return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
  }

  /// Reads what `json` gives.
  package init(json: String) throws { self = try JSONDecoder().decode(Self.self, from: Data(json.utf8)) }

  /// The input as a view without draws.
  private var view: ViewRecipe {
    ViewRecipe(
      size: size,
      operations: [Centre(margin: margin, interpolation: interpolation)] + selections
        + [Normalise.explicit(mean: mean, deviation: deviation)])
  }

  /// Makes the input of some samples.
  /// - Parameters:
  ///   - source: with images of `imageChannels` channels.
  ///   - out: (samples.count, size, size, channels).
  /// - Throws: `RecipeError`, or `LoadError` for the first sample that cannot be loaded.
  package func fill(
    _ source: any ImageSource, samples: [Int], into out: UnsafeMutablePointer<Float>, _ team: ThreadTeam,
    decode: DecodeMode = .full
  ) throws {
    precondition(
      source.channels == imageChannels, "an input from images of \(imageChannels) channels, not \(source.channels)")
    let unused = [Double](repeating: 1, count: imageChannels)  // the view has numbers of its own
    let views = try Views([view], channels: imageChannels, mean: unused, deviation: unused)
    let makers = Makers((0..<team.count).map { _ in ViewMaker(views) })
    let area = size * size * channels
    let failure = Mutex<(index: Int, error: LoadError)?>(nil)
    let perBlock = 16
    team.run((samples.count + perBlock - 1) / perBlock) { block, thread in
      var bytes: [UInt8] = []
      let maker = makers.all[thread]
      for i in block * perBlock..<min(samples.count, (block + 1) * perBlock) {
        let sample = samples[i]
        do {
          let record = try source.record(sample)
          try source.fetch(sample..<sample + 1, into: &bytes)
          try bytes.withUnsafeBytes { buffer in
            let encoded = UnsafeRawBufferPointer(rebasing: buffer[..<record.length])
            let key = ViewKey(seed: 0, epoch: 0, step: 0, sample: sample, view: 0)
            try maker.make(encoded, record, key, decode) { _, _ in out + i * area }
          }
        } catch {
          failure.withLock {
            if $0 == nil || i < $0!.index { $0 = (i, LoadError(sample: sample, source.name(sample), error)) }
          }
          return
        }
      }
    }
    if let found = failure.withLock({ $0 }) { throw found.error }
  }

  /// One maker a thread; each thread touches its own only.
  private final class Makers: @unchecked Sendable {
    let all: [ViewMaker]
    init(_ all: [ViewMaker]) { self.all = all }
  }
}

extension ViewRecipe {
  /// How the view's values are normalised.
  package var normalise: Normalise { operations.last?.body as? Normalise ?? .none }

  /// How its channels are made from those of the image.
  package var selections: [Channels] { operations.compactMap { $0.body as? Channels } }

  /// The view with the numbers of what an encoder is fed, if it is normalised by those of its training set.
  package func normalised(by input: EncoderInput) -> ViewRecipe {
    guard normalise == .dataset else { return self }
    var view = self
    view.operations[operations.count - 1] = Operation(
      Normalise.explicit(mean: input.mean, deviation: input.deviation))
    return view
  }

  /// The view with whatever its operations take from the training set filled in.
  package func resolved(mean: [Double], deviation: [Double]) -> ViewRecipe {
    var view = self
    var channels: [Int?] = Array(mean.indices)
    view.operations = operations.map { row in
      guard let augmentation = row.body as? any Augmentation else { return row }
      let known = channels
      channels = augmentation.channels(of: channels)
      return Operation(
        augmentation.resolved(
          mean: known.map { $0.map { mean[$0] } ?? 0 }, deviation: known.map { $0.map { deviation[$0] } ?? 1 }))
    }
    return view
  }
}
