import Engine
import Foundation
import Limits
import Randomness
import Ranks
import Shards

/// Times a method's training step on random views, without the data path.
package struct Bench {
  /// What is timed.
  package struct Options: Sendable {
    /// The encoder's recipe.
    package var encoder: EncoderRecipe
    /// Channels of an image.
    package var channels = 3
    /// Height and width of an image, in pixels.
    package var size = 32
    /// Images per rank; each has two views.
    package var images = 64
    /// Timed steps, after one warm-up step.
    package var steps = 4
    /// The method's recipe. It must take two views of one kind.
    package var method: any MethodRecipe = {
      var simclr = SimCLR()
      simclr.temperature = 0.5
      return simclr
    }()
    /// Groups of batch normalisation.
    package var normalisation = NormalisationGroups.global
    /// Algorithm of the convolutions.
    package var convolution = ConvolutionAlgorithm.fast
    /// The defaults for an encoder.
    package init(encoder: EncoderRecipe) { self.encoder = encoder }
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

  private let options: Options
  private let context: Context
  private let method: any Method
  private var images: [Float]
  private let samples: [Int]

  /// Builds the method, plans its memory with a dry run and draws the views.
  /// - Throws: `RunError` if an option is out of range or the memory does not suffice.
  package init(_ options: Options, _ context: Context) throws {
    self.options = options
    self.context = context
    guard options.images >= 1, options.size >= 1, options.steps >= 1 else {
      throw RunError(
        "images, size and steps are \(options.images), \(options.size) and \(options.steps); all must be at least 1")
    }
    context.convolution = options.convolution
    let batch = options.images * context.communicator.size
    method = options.method.make(
      MethodSetting(
        encoder: options.encoder.options(channels: options.channels), normalisation: options.normalisation,
        images: batch, plan: RunPlan(stepsPerEpoch: 1, batch: batch, length: .steps(options.steps)), context: context))
    samples = Array(0..<options.images)
    // As in a run, the arena gets the size that the step needs.
    context.arena.unseal { bytes in
      context.communicator.abort(
        "error: a step's activations need more than the \(bytes >> 20) MiB that the system gives a process: "
          + "take a smaller encoder, fewer images or a smaller size", code: 1)
    }
    images = []
    // Not `gradients`, which sets all gradients to zero and so takes their memory before it is known to be there.
    context.dry {
      _ = method.step(input(UnsafeMutablePointer(bitPattern: 64)!))
      for trained in method.trained { trained.reducer.finish() }
    }
    context.arena.seal()
    try checkMemory()
    method.initialise()
    let rank = UInt64(context.communicator.rank)
    var draws = Draws(seed: 1, .check, rank)
    let count = 2 * options.images * options.size * options.size * options.channels
    images = (0..<count).map { _ in Float(draws.uniform() * 3.4 - 1.7) }
  }

  /// Refuses a bench that does not fit into memory, before the memory is touched.
  private func checkMemory() throws(RunError) {
    let views = 2 * options.images * options.size * options.size * options.channels * MemoryLayout<Float>.stride
    let kept = method.stateBytes + method.gradientBytes + method.unsavedBytes
    let rank = context.arena.peak + 2 * views + kept
    let needed = Int64(rank) * Int64(context.communicator.ranksOnNode)
    guard let room = MemoryRoom.ofNode(), needed > room.bytes else { return }
    throw RunError(
      "the ranks of \(context.communicator.host) need \(needed >> 20) MiB, but \(room.bytes >> 20) are free"
        + "\(room.bound): \(room.advice)take a smaller encoder, fewer images, a smaller size or fewer ranks on a node")
  }

  private func input(_ pixels: UnsafeMutablePointer<Float>) -> MethodInput {
    let ranks = context.communicator.size
    let x = Tensor(pixels, n: 2 * options.images, h: options.size, w: options.size, c: options.channels)
    return MethodInput(
      step: 0, batch: options.images * ranks, shares: Array(repeating: options.images, count: ranks),
      rank: context.communicator.rank, samples: samples, views: [x])
  }

  private func step(_ pixels: UnsafeMutablePointer<Float>) -> Outcome { method.gradients(input(pixels)) }

  /// - Parameters:
  ///   - before: called on every rank before each step, including the warm-up, and before the measurements that follow.
  ///   - after: gets the seconds of each step, including the warm-up.
  package func run(before: () throws -> Void = {}, after: (_ seconds: Double) -> Void = { _ in }) rethrows -> Result {
    var pixels = images
    return try pixels.withUnsafeMutableBufferPointer { pixels in
      let optimizer = SGD()
      func timed() -> Double {
        context.communicator.barrier()
        let start = ContinuousClock.now
        _ = step(pixels.baseAddress!)
        context.part(.update) { method.update(optimizer, step: 0, rate: 0.03, context) }
        return (ContinuousClock.now - start).seconds
      }
      try before()
      after(timed())  // warms up
      let profile = Profile()
      let stood = Standstill(context)
      var seconds: [Double] = []
      for _ in 0..<options.steps {
        try before()
        context.profile = profile
        seconds.append(timed())
        context.profile = nil
        after(seconds.last!)
      }
      try before()
      var exposed = stood?.exposed(options.steps)
      if exposed != nil {
        for trained in method.trained { trained.reducer.overlaps = false }
        let unhidden = Standstill(context)
        let few = min(options.steps, 4)
        for _ in 0..<few { _ = timed() }
        exposed!.unhidden = unhidden!.exposed(few).gradients
        for trained in method.trained { trained.reducer.overlaps = true }
      }
      let peakResident = Training.peakResident()  // before the roofs take memory of their own
      let steps = Double(options.steps)
      let median = Self.median(of: seconds)
      return Result(
        seconds: median, meanSeconds: seconds.reduce(0, +) / steps, viewsPerSecond: viewsPerSecond(median),
        parts: Profile.Part.allCases.compactMap { part in profile.parts[part].map { (part, $0 / steps) } },
        layers: profile.layers.map { ($0.name, $0.part, $0.sum / steps) }, exposed: exposed,
        peakResident: peakResident, peak: Peak(threads: context.team.count))
    }
  }

  /// Views per second of all ranks, for a step of so many seconds.
  package func viewsPerSecond(_ seconds: Double) -> Double {
    Double(2 * options.images * context.communicator.size) / seconds
  }

  /// Median; the mean of the middle two for an even count.
  private static func median(of seconds: [Double]) -> Double {
    let sorted = seconds.sorted()
    let last = sorted.count - 1
    return (sorted[last / 2] + sorted[(last + 1) / 2]) / 2
  }

  /// One step on the weights and views of a safetensors file, for comparison with another framework.
  /// - Returns: the loss and the norm of the gradients.
  package func exchange(_ path: String) throws -> (loss: Double, gradientNorm: Double) {
    let file = try Safetensors.read(path)
    try Weights.fill(method.encoder.state, from: file, path)
    method.adoptEncoder()
    let n = options.images
    let c = options.channels
    let area = options.size * options.size
    var pixels = images
    for view in 0..<2 {
      let shape = try file.shape("view.\(view)")
      guard shape == [n, c, options.size, options.size] else {
        throw RunError("\(path): view.\(view) has shape \(shape), expected \([n, c, options.size, options.size])")
      }
      let planar = try file.floats("view.\(view)")
      for i in 0..<n {
        for j in 0..<c {
          for p in 0..<area { pixels[((view * n + i) * area + p) * c + j] = planar[(i * c + j) * area + p] }
        }
      }
    }
    let loss = pixels.withUnsafeMutableBufferPointer { step($0.baseAddress!).loss }
    return (loss, norm(method.encoder.gradients.data, method.encoder.gradients.count))
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
