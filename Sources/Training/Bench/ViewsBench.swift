import Foundation
import Shards

/// Times the data path alone: what `Loader` makes of a data set when nothing but the loader is waited for.
package struct ViewsBench {
  package struct Result: Sendable {
    /// Each image is read and decoded once, and all its views are made.
    package var imagesPerSecond: Double
    /// Timed.
    package var images: Int, seconds: Double
    package var viewsPerImage: Int
    /// Mean encoded length of the timed images, bytes.
    package var bytesPerImage: Double
    /// Of the values of all views that warmed up, over pixels and channels.
    package var mean: Double, deviation: Double
  }

  private let stage: Stage
  private let data: DataSet
  private let seed: UInt64
  private let threads: Int

  /// - Parameters:
  ///   - recipe: the views and the way through the data of its first stage are taken.
  ///   - data: a packed data set, or the folder that holds `train`.
  ///   - threads: loader threads, at least 1.
  /// - Throws: `ShardError` where the data cannot be opened.
  package init(_ recipe: Recipe, data: String, threads: Int) throws {
    stage = recipe.stages[0]
    seed = recipe.seed
    self.threads = threads
    self.data = try DataSet(at: Trainer.paths(data, nil).train)
  }

  /// Makes at least 256 images' views to warm up, then times whole batches.
  /// - Parameter seconds: batches are taken for so long, and one more.
  /// - Throws: `RecipeError` where the views cannot be made of such data, `LoadError` where an image cannot be loaded.
  package func run(seconds: Double) throws -> Result {
    // Small batches end close to the time that was asked for; what a step of a run holds makes no difference.
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
    // What is ahead when the clock starts is ahead when it stops: the batches in between are what was made meanwhile.
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

  /// The views as the recipe's JSON has them, so that a peer can make the same.
  package var views: JSONValue {
    get throws { try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(stage.views)) }
  }
}

/// Mean and deviation of what was added.
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
