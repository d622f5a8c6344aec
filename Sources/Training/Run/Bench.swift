import Engine
import Foundation
import Randomness
import Shards

/// Times the step of a method on made-up views: everything but the data.
package struct Bench {
  package struct Options: Sendable {
    package var encoder: EncoderRecipe
    package var channels = 3
    package var size = 32
    /// Images of each rank.
    package var images = 64
    package var steps = 4
    package var method: any MethodRecipe = { var simclr = SimCLR(); simclr.temperature = 0.5; return simclr }()
    package var normalisation = NormalisationGroups.global
    package var convolution = ConvolutionAlgorithm.fast
    package init(encoder: EncoderRecipe) { self.encoder = encoder }
  }

  package struct Result: Sendable {
    /// Median over the steps, and their mean.
    package var seconds: Double, meanSeconds: Double
    package var viewsPerSecond: Double
    /// Of a mean step.
    package var parts: [(part: Profile.Part, sum: Profile.Sum)]
    /// Every layer and direction of a mean step.
    package var layers: [(name: String, part: Profile.Part, sum: Profile.Sum)]
    /// Seconds of a step that arithmetic stood still for other ranks: for sums of gradients, with and without hiding
    /// them behind backward, and for everything else. Nil on one rank.
    package var exposed: (gradients: Double, unhidden: Double, rest: Double)?
    package var peakResident: Int64
    package var peak: Peak
  }

  private let options: Options
  private let context: Context
  private let method: any Method
  private let images: [Float]
  private let samples: [Int]

  package init(_ options: Options, _ context: Context) throws {
    self.options = options
    self.context = context
    guard options.images >= 1, options.size >= 1, options.steps >= 1 else {
      throw RunError("images, size and steps are \(options.images), \(options.size) and \(options.steps); all must be at least 1")
    }
    context.convolution = options.convolution
    let batch = options.images * context.communicator.size
    method = options.method.make(
      MethodSetting(
        encoder: options.encoder.options(channels: options.channels), normalisation: options.normalisation,
        images: batch, plan: RunPlan(stepsPerEpoch: 1, batch: batch, length: .steps(options.steps)), context: context))
    method.initialise()
    samples = Array(0..<options.images)
    let rank = UInt64(context.communicator.rank)
    var draws = Draws(seed: 1, .check, rank)
    let count = 2 * options.images * options.size * options.size * options.channels
    images = (0..<count).map { _ in Float(draws.uniform() * 3.4 - 1.7) }
    // As a run does: the arena is as large as the step needs.
    context.dry { _ = step(UnsafeMutablePointer(bitPattern: 64)!) }
    context.arena.seal()
  }

  private func step(_ pixels: UnsafeMutablePointer<Float>) -> MethodOutcome {
    let ranks = context.communicator.size
    let x = Tensor(pixels, n: 2 * options.images, h: options.size, w: options.size, c: options.channels)
    for trained in method.trained { trained.gradients.zero() }
    let outcome = method.step(
      MethodInput(
        step: 0, batch: options.images * ranks, shares: Array(repeating: options.images, count: ranks),
        rank: context.communicator.rank, samples: samples, views: [x]))
    for trained in method.trained { trained.reducer.finish() }
    return outcome
  }

  package func run() -> Result {
    var pixels = images
    return pixels.withUnsafeMutableBufferPointer { pixels in
      let optimizer = SGD()
      var seconds: [Double] = []
      func whole() {
        _ = step(pixels.baseAddress!)
        context.part(.update) {
          for trained in method.trained {
            optimizer.update(trained.state.parameters, trained.gradients, momentum: trained.momentum, rate: 0.03, context)
          }
          method.commit()
        }
      }
      whole()  // warms up
      let profile = Profile(), mpi = context.communicator as? MPICommunicator
      /// Seconds in collectives for gradients, and for the rest, in a mean step.
      func steps(_ note: (Double) -> Void) -> (gradients: Double, rest: Double) {
        let before = (mpi?.seconds(on: .gradients) ?? 0, mpi?.seconds ?? 0)
        for _ in 0..<options.steps {
          context.communicator.barrier()
          let start = ContinuousClock.now
          whole()
          note((ContinuousClock.now - start).seconds)
        }
        let gradients = (mpi?.seconds(on: .gradients) ?? 0) - before.0
        return (gradients / Double(options.steps), ((mpi?.seconds ?? 0) - before.1 - gradients) / Double(options.steps))
      }
      context.profile = profile
      let hidden = steps { seconds.append($0) }
      context.profile = nil
      var exposed: (gradients: Double, unhidden: Double, rest: Double)?
      if context.communicator.size > 1 {
        for trained in method.trained { trained.reducer.overlaps = false }
        exposed = (hidden.gradients, steps { _ in }.gradients, hidden.rest)
        for trained in method.trained { trained.reducer.overlaps = true }
      }
      let peakResident = Training.peakResident()  // before the roofs take memory of their own
      let steps = Double(options.steps), median = Self.median(of: seconds)
      return Result(
        seconds: median, meanSeconds: seconds.reduce(0, +) / steps, viewsPerSecond: Double(2 * options.images * context.communicator.size) / median,
        parts: Profile.Part.allCases.compactMap { part in profile.parts[part].map { (part, $0 / steps) } },
        layers: profile.layers.map { ($0.name, $0.part, $0.sum / steps) }, exposed: exposed,
        peakResident: peakResident, peak: Peak(threads: context.team.count))
    }
  }

  /// Of an even number, the mean of the middle two.
  private static func median(of seconds: [Double]) -> Double {
    let sorted = seconds.sorted(), last = sorted.count - 1
    return (sorted[last / 2] + sorted[(last + 1) / 2]) / 2
  }

  /// One step on weights and views of a file: what a peer computed is compared with it.
  /// - Returns: loss and norm of all gradients.
  package func exchange(_ path: String) throws -> (loss: Double, gradientNorm: Double) {
    let file = try Safetensors.read(path)
    try Weights.fill(method.encoder.state, from: file, path)
    method.adoptEncoder()
    let (n, c, area) = (options.images, options.channels, options.size * options.size)
    var pixels = images
    for view in 0..<2 {
      let shape = try file.shape("view.\(view)")
      guard shape == [n, c, options.size, options.size] else {
        throw RunError("\(path): view.\(view) has shape \(shape), expected \([n, c, options.size, options.size])")
      }
      let planar = try file.floats("view.\(view)")
      for i in 0..<n { for j in 0..<c { for p in 0..<area { pixels[((view * n + i) * area + p) * c + j] = planar[(i * c + j) * area + p] } } }
    }
    let loss = pixels.withUnsafeMutableBufferPointer { step($0.baseAddress!).loss }
    return (loss, norm(method.encoder.gradients.data, method.encoder.gradients.count))
  }
}
