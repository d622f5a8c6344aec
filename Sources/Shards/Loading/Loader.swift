import Foundation
import Ranks

/// A sample that could not be read or decoded.
package struct LoadError: Error, CustomStringConvertible {
  /// The sample's number, and the error in one line.
  package let sample: Int, description: String

  init(sample: Int, _ name: String, _ error: any Error) {
    self.sample = sample
    description = "cannot load sample \(sample), \(name): \(error)"
  }
}

/// Reads, decodes and augments images ahead of time in its own threads, and delivers batches in order of their steps.
///
/// A batch is a pure function of the data, the order, the recipes and the seed: the numbers of ranks and threads do not
/// change a bit of it. Memory: `ahead` batches, the encoded samples in `LaneCache`, and a workspace in each thread. All
/// of it is reused.
package final class Loader: @unchecked Sendable {
  private let work: LoaderWork
  private var threads: [pthread_t] = []
  private var step: Int
  private let until: Int
  /// Notices of what the recipes ask for but the data cannot provide.
  package let notices: [String]
  /// Seconds spent waiting in `next`.
  package private(set) var secondsWaited = 0.0
  /// Bytes of the batches. Encoded samples (`ReadPlan.cacheBytes`) and each thread's scratch memory, about one decoded
  /// image and one view, are not included.
  package var memory: Int { work.memory }
  /// Encoded bytes read so far.
  package var bytesRead: Int { work.cache.bytesRead }

  /// - Parameters:
  ///   - rank, ranks: which share of each global batch to load.
  ///   - threads: at least 1.
  ///   - ahead: batches in memory, at least 1. With 1, nothing is loaded while the caller holds a batch.
  ///   - from, until: steps of the run; `until` is excluded.
  /// - Throws: `RecipeError` if the recipes do not suit the data, or the data is smaller than a batch.
  package init(
    _ source: any ImageSource, order: Order, views recipes: [ViewRecipe], rank: Int, ranks: Int, seed: UInt64,
    threads: Int, ahead: Int, from step: Int, until: Int, decode: DecodeMode = .full
  ) throws(RecipeError) {
    precondition(threads > 0 && ahead > 0 && step >= 0, "\(threads) threads, \(ahead) batches ahead, from \(step)")
    precondition(order.count == source.count, "an order of \(order.count) for \(source.count) samples")
    guard order.stepsPerEpoch > 0 else {
      throw RecipeError(
        "batch: \(order.batch) images are more than the data set's \(order.count); "
          + "take a smaller batch, or `last: keep`")
    }
    let views = try Views(recipes, channels: source.channels, mean: source.mean, deviation: source.deviation)
    notices = views.notices
    self.step = step
    self.until = until
    let lanes = LaneCache(source, order, rank: rank, ranks: ranks, ahead: ahead)
    work = LoaderWork(
      source, order, views, lanes, rank: rank, ranks: ranks, seed: seed, threads: threads, ahead: ahead, from: step,
      until: until, decode: decode)
    for _ in 0..<threads { self.threads.append(work.start()) }
  }

  /// Bytes of the pixels of a loader's batches.
  package static func batchBytes(
    _ source: any ImageSource, order: Order, views: [ViewRecipe], rank: Int, ranks: Int, ahead: Int
  ) -> Int {
    let images = share(of: order.batch, rank: rank, ranks: ranks).count + 1
    let floats = views.reduce(0) { $0 + $1.count * $1.size * $1.size * $1.channels(of: source.channels) }
    return ahead * images * floats * MemoryLayout<Float>.stride
  }

  deinit {
    work.stop()
    for thread in threads { pthread_join(thread, nil) }
  }

  /// Waits for the next step's batch and returns it. Only one thread at a time may call this.
  /// - Throws: `LoadError` if one of its samples could not be loaded.
  package func next() throws -> Batch {
    precondition(step < until, "there is no step \(step): the loader ends before \(until)")
    let start = DispatchTime.now().uptimeNanoseconds
    defer { secondsWaited += Double(DispatchTime.now().uptimeNanoseconds - start) * 1e-9 }
    let batch = try work.take(step)
    step += 1
    return batch
  }

  /// Returns a batch's memory to the loader.
  package func release(_ batch: Batch) { work.release(batch.step) }
}
