import Synchronization
import Threading

/// The one view that evaluation uses: no draws, no augmentation.
package struct EvaluationView: Codable, Equatable, Sendable {
  package var size: Int
  /// How the image is framed; see `EvaluationView.framing(size:)` for the default.
  package var centre: Centre
  package var normalise: Normalise

  /// - Parameters:
  ///   - size: side in pixels.
  ///   - margin: the shorter side is resized to size · margin before the central square is cut (8/7: 256 for 224); 0
  ///     squeezes the whole image into the square. Nil: 0 up to 64 pixels, where images are small and centred already,
  ///     else 8/7.
  package init(
    size: Int, margin: Double? = nil, interpolation: Interpolation = .bilinear, normalise: Normalise = .dataset
  ) {
    self.size = size
    centre = Centre(margin: margin ?? (size <= 64 ? 0 : 8.0 / 7), interpolation: interpolation)
    self.normalise = normalise
  }

  /// The view as a recipe.
  package var recipe: ViewRecipe { ViewRecipe(size: size, operations: [centre, normalise]) }

  /// Makes the views of some samples.
  /// - Parameter out: (samples.count, size, size, channels).
  /// - Throws: `RecipeError`, or `LoadError` for the first sample that cannot be loaded.
  package func fill(
    _ source: any ImageSource, samples: [Int], into out: UnsafeMutablePointer<Float>, _ team: ThreadTeam,
    decode: DecodeMode = .full
  ) throws {
    let views = try Views([recipe], channels: source.channels, mean: source.mean, deviation: source.deviation)
    let makers = Makers((0..<team.count).map { _ in ViewMaker(views) })
    let area = size * size * source.channels
    let failure = Mutex<(index: Int, error: LoadError)?>(nil)
    let perBlock = 16
    team.run((samples.count + perBlock - 1) / perBlock) { block, thread in
      var bytes: [UInt8] = []
      let maker = makers.all[thread]
      for i in block * perBlock..<min(samples.count, (block + 1) * perBlock) {
        let sample = samples[i]
        let record = source.record(sample)
        do {
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
