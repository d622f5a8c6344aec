import Engine
import Foundation
import Limits
import Randomness
import Ranks
import Shards

/// Times work on made-up images, without the data path.
package final class Bench {
  /// What a rank is given in a step.
  package struct Batch: Sendable {
    /// A kind of view.
    package struct Kind: Sendable {
      /// Views of each image.
      package var count: Int
      /// Height and width, in pixels.
      package var size: Int
      /// Channels.
      package var channels: Int
      /// Number of targets; 0 for a kind without.
      package var answers = 0

      /// Views without targets.
      package init(count: Int, size: Int, channels: Int) {
        self.count = count
        self.size = size
        self.channels = channels
      }

      /// As a recipe has it, for images of so many channels.
      package init(_ view: ViewRecipe, channels: Int) {
        self.init(count: view.count, size: view.size, channels: view.channels(of: channels))
        answers = view.puzzle?.answers ?? 0
      }

      /// Floats of all views of an image.
      var floats: Int { count * size * size * channels }
    }

    /// The kinds of view.
    package var kinds: [Kind]
    /// Images per rank.
    package var images: Int
    /// Classes that the images' labels are drawn from.
    package var classes: Int

    /// Images of some kinds of view.
    package init(_ kinds: [Kind], images: Int, classes: Int = 10) {
      self.kinds = kinds
      self.images = images
      self.classes = classes
    }

    /// Views of each image.
    package var viewsPerImage: Int { kinds.reduce(0) { $0 + $1.count } }
    /// Floats of all views.
    var floats: Int { images * kinds.reduce(0) { $0 + $1.floats } }
  }

  /// What was measured.
  package struct Result: Sendable {
    /// Median and mean seconds of a step.
    package var seconds: Double, meanSeconds: Double
    /// Of all ranks, at the median step.
    package var viewsPerSecond: Double
    /// Profile of a mean step by part.
    package var parts: [(part: Profile.Part, sum: Profile.Sum)]
    /// Profile of a mean step by layer and direction.
    package var layers: [(name: String, part: Profile.Part, sum: Profile.Sum)]
    /// Exposed communication; nil on one rank.
    package var exposed: Exposed?
    /// Peak resident memory of this rank, in bytes.
    package var peakResident: Int64
    /// Bytes of this rank's activations, and of what it keeps: weights, gradients, the optimizer's state.
    package var activations: Int, kept: Int
    /// Bytes of gradients that a rank sends in a step.
    package var sentBytes: Int
    /// The machine's measured peak performance.
    package var peak: Peak
  }

  /// Exposed communication: seconds of a mean step in which arithmetic waits for other ranks, mean over the ranks.
  package struct Exposed: Sendable {
    /// For sums of gradients, and the same without overlapping them with backward.
    package var gradients: Double, unhidden: Double
    /// For all other collectives, each counted with the time of the rank that was in it for the shortest time, which is
    /// the rank that came last.
    package var rest: Double
    /// Waiting for ranks that came to those collectives later. This is load imbalance, not communication.
    package var waiting: Double
  }

  private let batch: Batch
  private let context: Context
  private let work: any BenchWork
  /// Kind after kind.
  private var pixels: [Float] = []
  private var labels: [Int32] = []
  /// By kind.
  private var targets: [UnsafeMutablePointer<Int32>?] = []
  private let samples: [Int]

  /// Builds the work, plans its memory with a dry run and draws the views.
  /// - Throws: `RunError` if a number is out of range or the memory does not suffice, and what `make` throws.
  package init(_ batch: Batch, _ context: Context, _ make: (Batch, Context) throws -> any BenchWork) throws {
    guard batch.images >= 1, batch.kinds.allSatisfy({ $0.size >= 1 && $0.count >= 1 }) else {
      throw RunError("a batch of \(batch.images) images and \(batch.viewsPerImage) views; there must be some of both")
    }
    self.batch = batch
    self.context = context
    samples = Array(0..<batch.images)
    work = try make(batch, context)
    // As in a run, the arena gets the size that the step needs.
    context.arena.unseal { bytes in
      context.communicator.abort(
        "error: a step's activations need more than the \(bytes >> 20) MiB that the system gives a process: "
          + "take a smaller encoder, fewer images or a smaller size", code: 1)
    }
    context.dry { work.step(input(UnsafeMutablePointer(bitPattern: 64)!)) }
    context.arena.seal()
    try checkMemory()
    work.initialise()
    draw()
  }

  deinit { for target in targets { target?.deallocate() } }

  private func draw() {
    var draws = Draws(seed: 1, .check, UInt64(context.communicator.rank))
    pixels = (0..<batch.floats).map { _ in Float(draws.uniform() * 3.4 - 1.7) }
    func number(below count: Int) -> Int32 { Int32(min(count - 1, Int(draws.uniform() * Double(count)))) }
    if batch.classes > 0 { labels = samples.map { _ in number(below: batch.classes) } }
    targets = batch.kinds.map { kind in
      guard kind.answers > 0 else { return nil }
      let values = UnsafeMutablePointer<Int32>.allocate(capacity: kind.count * batch.images)
      for i in 0..<kind.count * batch.images { values[i] = number(below: kind.answers) }
      return values
    }
  }

  /// Refuses a bench that does not fit into memory, before the memory is touched.
  private func checkMemory() throws(RunError) {
    let rank = context.arena.peak + 2 * batch.floats * MemoryLayout<Float>.stride + work.bytes
    let needed = Int64(rank) * Int64(context.communicator.ranksOnNode)
    guard let room = MemoryRoom.ofNode(), needed > room.bytes else { return }
    throw RunError(
      "the ranks of \(context.communicator.host) need \(needed >> 20) MiB, but \(room.bytes >> 20) are free"
        + "\(room.bound): \(room.advice)take a smaller encoder, fewer images, a smaller size or fewer ranks on a node")
  }

  private func input(_ pixels: UnsafeMutablePointer<Float>) -> MethodInput {
    let ranks = context.communicator.size
    var at = pixels
    let views = batch.kinds.map { kind in
      let x = Tensor(at, n: kind.count * batch.images, h: kind.size, w: kind.size, c: kind.channels)
      if !context.isDry { at += x.count }
      return x
    }
    return MethodInput(
      step: 0, batch: batch.images * ranks, shares: Array(repeating: batch.images, count: ranks),
      rank: context.communicator.rank, samples: samples, labels: labels, views: views,
      targets: batch.kinds.contains { $0.answers > 0 } ? targets.map { $0.map { UnsafePointer($0) } } : [])
  }

  /// - Parameters:
  ///   - steps: timed, after one that warms up.
  ///   - before: called on every rank before each step, including the warm-up, and before the measurements that follow.
  ///   - after: gets the seconds of each step, including the warm-up.
  package func run(
    steps count: Int, before: () throws -> Void = {}, after: (_ seconds: Double) -> Void = { _ in }
  ) rethrows -> Result {
    var pixels = pixels
    return try pixels.withUnsafeMutableBufferPointer { pixels in
      func timed() -> Double {
        context.communicator.barrier()
        let start = ContinuousClock.now
        work.step(input(pixels.baseAddress!))
        return (ContinuousClock.now - start).seconds
      }
      try before()
      after(timed())  // warms up
      let profile = Profile()
      let stood = Standstill(context)
      var seconds: [Double] = []
      for _ in 0..<count {
        try before()
        context.profile = profile
        seconds.append(timed())
        context.profile = nil
        after(seconds.last!)
      }
      try before()
      var exposed = stood?.exposed(count)
      if exposed != nil {
        for reducer in work.reducers { reducer.overlaps = false }
        let unhidden = Standstill(context)
        let few = min(count, 4)
        for _ in 0..<few { _ = timed() }
        exposed!.unhidden = unhidden!.exposed(few).gradients
        for reducer in work.reducers { reducer.overlaps = true }
      }
      let peakResident = Training.peakResident()  // before the roofs take memory of their own
      let activations = context.arena.peak
      let steps = Double(count)
      let median = Self.median(of: seconds)
      return Result(
        seconds: median, meanSeconds: seconds.reduce(0, +) / steps, viewsPerSecond: viewsPerSecond(median),
        parts: Profile.Part.allCases.compactMap { part in profile.parts[part].map { (part, $0 / steps) } },
        layers: profile.layers.map { ($0.name, $0.part, $0.sum / steps) }, exposed: exposed,
        peakResident: peakResident, activations: activations, kept: work.bytes, sentBytes: work.sentBytes,
        peak: Peak(threads: context.team.count))
    }
  }

  /// Views per second of all ranks, for a step of so many seconds.
  package func viewsPerSecond(_ seconds: Double) -> Double {
    Double(batch.viewsPerImage * batch.images * context.communicator.size) / seconds
  }

  /// Median; the mean of the middle two for an even count.
  private static func median(of seconds: [Double]) -> Double {
    let sorted = seconds.sorted()
    let last = sorted.count - 1
    return (sorted[last / 2] + sorted[(last + 1) / 2]) / 2
  }

  /// One step on the weights, views and labels of a safetensors file, for comparison with another framework.
  /// - Returns: figures by their names.
  package func exchange(_ path: String) throws -> [String: Double] {
    let file = try Safetensors.read(path)
    try work.load(file, path)
    var at = 0
    var number = 0
    for kind in batch.kinds {
      for _ in 0..<kind.count {
        try read("view.\(number)", of: file, path, kind, to: at)
        at += batch.images * kind.size * kind.size * kind.channels
        number += 1
      }
    }
    if file.contains("labels") { labels = try file.integers("labels").map { Int32($0) } }
    guard labels.count == batch.images || labels.isEmpty else {
      throw RunError("\(path): there are \(labels.count) labels, expected \(batch.images)")
    }
    var pixels = pixels
    return try pixels.withUnsafeMutableBufferPointer { try work.compare(input($0.baseAddress!), file) }
  }

  /// Reads a view of all images, which has its channels first there.
  private func read(_ name: String, of file: Safetensors, _ path: String, _ kind: Batch.Kind, to start: Int) throws {
    let wanted = [batch.images, kind.channels, kind.size, kind.size]
    let shape = try file.shape(name)
    guard shape == wanted else { throw RunError("\(path): \(name) has shape \(shape), expected \(wanted)") }
    let planar = try file.floats(name)
    let area = kind.size * kind.size
    let c = kind.channels
    for i in 0..<batch.images {
      for j in 0..<c {
        for p in 0..<area { pixels[start + (i * area + p) * c + j] = planar[(i * c + j) * area + p] }
      }
    }
  }
}

/// Measures exposed communication from its creation on.
private struct Standstill {
  private let communicator: any Communicator
  private let times: CollectiveTimes
  private let gradients: Double

  /// Nil on one rank.
  init?(_ context: Context) {
    guard context.communicator.size > 1, let times = context.communicator.times else { return nil }
    communicator = context.communicator
    self.times = times
    gradients = times.seconds(on: .gradients)
    times.waits = []
  }

  /// Exposed communication of a mean step, after `steps` steps. Collective: every rank must call it.
  func exposed(_ steps: Int) -> Bench.Exposed {
    let spent = times.seconds(on: .gradients) - gradients
    let own = times.waits ?? []
    times.waits = nil
    // The last rank to enter a collective does not wait, so the shortest time over ranks is the collective's own.
    var shortest = own
    shortest.withUnsafeMutableBufferPointer { communicator.allReduce($0, .min, on: .control, "waits") }
    func mean(_ seconds: Double) -> Double {
      communicator.allReduce(seconds, .sum) / Double(communicator.size * steps)
    }
    let rest = shortest.reduce(0, +) / Double(steps)
    return Bench.Exposed(gradients: mean(spent), unhidden: 0, rest: rest, waiting: mean(own.reduce(0, +)) - rest)
  }
}
