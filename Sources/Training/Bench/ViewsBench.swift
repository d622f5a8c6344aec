import Foundation
import Shards

/// Times the data path alone: how fast `Loader` delivers batches when the consumer does nothing else.
package struct ViewsBench {
  /// What was measured.
  package struct Result: Sendable {
    /// Images per second, each read and decoded once and augmented to all its views.
    package var imagesPerSecond: Double
    /// Timed images, and the seconds that they took.
    package var images: Int, seconds: Double
    /// Views of each image, over all kinds.
    package var viewsPerImage: Int
    /// Mean encoded length of the timed images, bytes.
    package var bytesPerImage: Double
    /// Mean and standard deviation of the values of the warm-up views, over pixels and channels.
    package var mean: Double, deviation: Double
  }

  private let stage: Stage
  private let data: DataSet
  private let seed: UInt64
  private let threads: Int

  /// - Parameters:
  ///   - recipe: its first stage gives the views and the order of the data.
  ///   - data: a packed data set, or a folder that holds one as `train`.
  ///   - threads: loader threads, at least 1.
  /// - Throws: `FileError` if the data cannot be opened.
  package init(_ recipe: Recipe, data: String, threads: Int) throws {
    stage = recipe.stages[0]
    seed = recipe.seed
    self.threads = threads
    self.data = try DataSet(at: Trainer.paths(data, nil).train)
  }

  /// Loads at least 256 images to warm up, then times whole batches.
  /// - Parameter seconds: batches are taken until so many seconds have passed.
  /// - Throws: `RecipeError` if the views do not suit the data, `LoadError` if an image cannot be loaded.
  package func run(seconds: Double) throws -> Result {
    // Small batches end close to the requested time. The batch size of the run does not change the speed.
    var recipe = stage.data
    recipe.last = .drop
    let order = try ReadPlan(data, batch: min(16, stage.batch, data.count), seed: seed, recipe).order
    let loader = try Loader(
      data, order: order, views: stage.views, rank: 0, ranks: 1, seed: seed, threads: threads, ahead: stage.data.ahead,
      from: 0, until: .max, decode: stage.data.decode)
    var sums = Moments()
    var warm = 0
    while warm < 256 {
      let batch = try loader.next()
      for group in batch.groups {
        sums.add(group.pixels, count: group.recipe.count * batch.count * group.length)
      }
      warm += batch.count
      loader.release(batch)
    }
    var images = 0
    var bytes = 0
    var elapsed = 0.0
    // The same number of batches is ahead when the clock starts and when it stops, so the batches taken in between
    // are as many as were loaded in that time.
    for _ in 0...stage.data.ahead { loader.release(try loader.next()) }
    let start = ContinuousClock.now
    while elapsed < seconds {
      let batch = try loader.next()
      images += batch.count
      for sample in batch.samples { bytes += data.record(sample).length }
      loader.release(batch)
      elapsed = (ContinuousClock.now - start).seconds
    }
    return Result(
      imagesPerSecond: Double(images) / elapsed, images: images, seconds: elapsed,
      viewsPerImage: stage.views.reduce(0) { $0 + $1.count }, bytesPerImage: Double(bytes) / Double(images),
      mean: sums.mean, deviation: sums.deviation)
  }

  /// The views as JSON, so that another framework can make the same.
  package var views: JSONValue {
    get throws { try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(stage.views)) }
  }
}

/// Mean and standard deviation of the added values.
private struct Moments {
  private var count = 0.0, sum = 0.0, squares = 0.0

  mutating func add(_ values: UnsafePointer<Float>, count: Int) {
    for i in 0..<count {
      let value = Double(values[i])
      sum += value
      squares += value * value
    }
    self.count += Double(count)
  }

  var mean: Double { sum / count }
  var deviation: Double { max(0, squares / count - mean * mean).squareRoot() }
}
