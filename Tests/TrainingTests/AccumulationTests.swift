import Engine
import Randomness
import Testing
import Training

/// Gradient accumulation gives the same as the whole batch, for all settings that recipes allow.
@Suite struct AccumulationTests {
  private struct Outcome {
    var loss: Double
    var gradients: [Float]
    var running: [Float]
    var weights: [Float]
    var queue: [Float]
  }

  private func run(_ groups: NormalisationGroups, parts: Int) -> Outcome {
    let context = Context()
    let batch = 16
    let size = 12
    var recipe = MoCo()
    recipe.head = [.features, .channels(8)]
    recipe.queue = 40
    let method = recipe.make(
      MethodSetting(
        encoder: .resnet(.init(.resnet18, width: 1 / 16, stem: .small, channels: 1)), normalisation: groups,
        accumulate: parts,
        images: batch, plan: RunPlan(stepsPerEpoch: 1, batch: batch, length: .steps(3)), context: context))
    method.initialise()
    var draws = Draws(seed: 1, .check)
    var loss = 0.0
    var gradients: [Float] = []
    for step in 0..<3 {
      var images = (0..<2 * batch * size * size).map { _ in Float(draws.normal()) }
      images.withUnsafeMutableBufferPointer {
        let x = Tensor($0.baseAddress!, n: 2 * batch, h: size, w: size, c: 1)
        loss =
          method.gradients(
            MethodInput(step: step, batch: batch, shares: [batch], rank: 0, samples: Array(0..<batch), views: [x])
          ).loss
      }
      gradients = Array(method.encoder.gradients.buffer)
      method.update(SGD(), step: step, rate: 0.01, context)
    }
    let state = method.state.first { $0.name == "queue/keys" }!
    let queue = state.bytes.bindMemory(to: Float.self)
    return withExtendedLifetime(context) {
      Outcome(
        loss: loss, gradients: gradients, running: Array(method.encoder.state.statistics.buffer),
        weights: Array(method.encoder.state.parameters.buffer), queue: Array(queue))
    }
  }

  private func distance(_ a: [Float], _ b: [Float]) -> Double {
    let difference = zip(a, b).map { $0 - $1 }
    return norm(difference, difference.count) / norm(b, b.count)
  }

  /// Sums are in another order, which gives a few roundings (2⁻²⁴) through twenty layers and three steps.
  @Test(arguments: [2, 4]) func partsAreTheWhole(parts: Int) {
    let whole = run(.shuffle(images: 4), parts: 1)
    let divided = run(.shuffle(images: 4), parts: parts)
    #expect(abs(whole.loss - divided.loss) < 1e-5 * whole.loss)
    #expect(distance(divided.gradients, whole.gradients) < 1e-4)
    #expect(distance(divided.running, whole.running) < 1e-5)
    #expect(distance(divided.weights, whole.weights) < 1e-5)
    #expect(distance(divided.queue, whole.queue) < 1e-5)
  }

  /// Control: with statistics of the whole batch the result differs, so the recipe refuses it.
  @Test func aGroupThatIsCutIsNotTheWhole() {
    #expect(distance(run(.global, parts: 2).gradients, run(.global, parts: 1).gradients) > 1e-2)
  }
}
