import Engine
import Foundation
import Randomness
import Ranks
import Shards
import TestSupport
import Testing
import Training

/// Whole steps of methods whose state is distributed over ranks, with ranks in one process.
@Suite struct BankTests {
  private struct Outcome: Sendable {
    var losses: [Double], inBatch: [Double], weights: [Float]
    /// Saved state by name: this rank's rows, or all if it is replicated.
    var state: [String: [Float]]
  }

  static let methods: [String: @Sendable () -> any MethodRecipe] = [
    "nce": {
      var bank = MemoryBank()
      bank.head = [.channels(8)]
      bank.negatives = 20
      bank.temperature = 0.2
      return bank
    },
    "whole": {
      var bank = MemoryBank()
      bank.head = [.channels(8)]
      bank.negatives = 0
      bank.temperature = 0.2
      bank.loss = .softmax
      return bank
    },
    "adco": {
      var adco = AdCo()
      adco.head = [.features, .channels(8)]
      adco.negatives = 13
      adco.temperature = 0.2
      adco.bankTemperature = 0.1
      adco.momentum = 0.9
      adco.bankRate = 0.5
      return adco
    },
    "adco without the batch": {
      var adco = AdCo()
      adco.head = [.channels(8)]
      adco.negatives = 13
      adco.temperature = 0.2
      adco.bankTemperature = 0.1
      adco.inBatch = false
      adco.fill = false
      adco.bankRate = 0.5
      return adco
    },
  ]

  /// Three steps of 7 images out of 11, one of them twice in a batch.
  private static func run(_ method: String, _ communicator: any Communicator) -> Outcome {
    let batch = 7
    let images = 11
    let steps = 3
    let size = 8
    let context = Context(communicator: communicator)
    let recipe = methods[method]!()
    let views = recipe is MemoryBank ? 1 : 2
    let running = recipe.make(
      MethodSetting(
        encoder: .resnet(.init(.resnet18, width: 1 / 16, stem: .small, channels: 1)),
        normalisation: recipe is MemoryBank ? .global : .shuffle(images: 4), images: images,
        plan: RunPlan(stepsPerEpoch: 1, batch: batch, length: .steps(steps)), context: context))
    running.initialise()
    let ranks = communicator.size
    let local = share(of: batch, rank: communicator.rank, ranks: ranks)
    let shares = (0..<ranks).map { share(of: batch, rank: $0, ranks: ranks).count }
    var outcome = Outcome(losses: [], inBatch: [], weights: [], state: [:])
    for step in 0..<steps {
      let samples = local.map { ($0 == 6 ? 0 : $0) + step % 3 }
      var pixels = (0..<views).flatMap { view in
        local.flatMap { position in
          var draws = Draws(seed: UInt64(step), .check, UInt64(position), UInt64(view))
          let level = draws.normal()
          return (0..<size * size).map { _ in Float(level + draws.normal()) }
        }
      }
      pixels.withUnsafeMutableBufferPointer {
        let nowhere = UnsafeMutablePointer<Float>(bitPattern: 64)!
        let x = Tensor($0.baseAddress ?? nowhere, n: views * local.count, h: size, w: size, c: 1)
        let told = running.gradients(
          MethodInput(step: step, batch: batch, shares: shares, rank: communicator.rank, samples: samples, views: [x]))
        outcome.losses.append(told.loss)
        outcome.inBatch.append(told.figures[.inBatch] ?? 0)
      }
      running.update(SGD(), step: step, rate: 0.01, context)
    }
    outcome.weights = Array(running.encoder.state.parameters.buffer)
    for array in running.state where array.rows != nil || array.name == "bank/z" {
      guard case .floats(let values) = array.values else { continue }
      outcome.state[array.name] = Array(values)
    }
    return withExtendedLifetime(context) { outcome }
  }

  private func distance(_ a: [Float], _ b: [Float]) -> Double {
    guard a.count == b.count else { return .infinity }
    let difference = zip(a, b).map { $0 - $1 }
    return norm(difference, difference.count) / max(norm(b, b.count), .leastNormalMagnitude)
  }

  /// Sums are in another order, which gives a few roundings (2⁻²⁴) through twenty layers and three steps, divided by
  /// temperatures of 0.1. After more steps a ReLU of so small a network switches sides. If a part of a batch or bank
  /// were left out, the second digit would change.
  @Test(arguments: methods.keys.sorted(), [2, 3, 4]) func ranksDoNotMatter(method: String, ranks: Int) throws {
    let one = Self.run(method, SingleProcess())
    let all = try Ranks.run(ranks) { Self.run(method, $0) }
    for outcome in all {
      for (a, b) in zip(outcome.losses, one.losses) {
        #expect(abs(a - b) < 1e-3 * b, "\(outcome.losses) for \(one.losses)")
      }
      for (a, b) in zip(outcome.inBatch, one.inBatch) { #expect(abs(a - b) < 1e-3) }
      #expect(distance(outcome.weights, one.weights) < 1e-3)
    }
    #expect(!one.state.isEmpty)
    for (name, values) in one.state {
      let rows = name == "bank/z" ? all[0].state[name]! : all.flatMap { $0.state[name]! }
      #expect(distance(rows, values) < 2e-3, "\(name)")
    }
  }

  /// Initial rows of a bank do not depend on the ranks.
  @Test func rowsAreDrawnByNumber() throws {
    let first = Self.run("nce", SingleProcess()).state["bank/values"]!
    #expect(first.count == 11 * 8)
    // No row has a norm near zero.
    for row in 0..<11 { #expect(norm(Array(first[row * 8..<row * 8 + 8]), 8) > 0.1) }
  }
}
