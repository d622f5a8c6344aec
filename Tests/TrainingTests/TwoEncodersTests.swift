import Engine
import Foundation
import Shards
import Testing
import Training

/// Two encoders, one that sees L and one that sees ab, learn each other's embeddings: Tian et al. 2019,
/// arXiv:1906.05849, with the other images of the batch as negatives. This file has all that a new method needs.
private struct Multiview: MethodRecipe {
  static let name = "multiview"

  func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String] { [] }

  func heads(features: Int, classes: Int) -> [HeadPlan] { [HeadPlan(.head, [Head.Layer(16, bias: true)])] }

  func make(_ setting: MethodSetting) -> any Method { Running(self, setting) }

  final class Running: Method {
    let trained: [Trained]
    var results: [Trained] { trained }
    private let setting: MethodSetting

    init(_ recipe: Multiview, _ setting: MethodSetting) {
      self.setting = setting
      trained = [setting.trained("lightness", recipe), setting.trained("colour", recipe, kind: 1)]
    }

    func initialise() { for (i, network) in trained.enumerated() { network.state.initialise(seed: UInt64(i)) } }

    func step(_ input: MethodInput) -> Outcome {
      let context = setting.context
      return context.scratch { arena in
        let groups = BatchGroups(images: input.count, in: arena)
        let passes = trained.map { $0.pass(context, groups) }
        let tapes = (0..<2).map { trained[$0].network.forward(input.views[$0], passes[$0]) }
        let q = tapes[0].output
        let k = tapes[1].output
        let unit = UnitRows(q, in: arena, context)
        let statistics = BatchInfoNCE(temperature: 0.2).apply(q, unit, keys: k, shares: input.shares, context)
        for i in [1, 0] { trained[i].network.backward(i == 0 ? q : k, tapes[i], passes[i]) }
        return Outcome(statistics, candidates: input.batch)
      }
    }
  }
}

@Suite struct TwoEncodersTests {
  private static let changes = [
    "method={name: multiview}",
    """
    views=[{size: 8, operations: [{crop: {}}, {channels: L}, {normalise: {mean: [0.5], deviation: [0.2]}}]}, \
    {size: 8, operations: [{crop: {}}, {channels: ab}, {normalise: {mean: [0.5, 0.5], deviation: [0.1, 0.1]}}]}]
    """,
  ]

  private func with(_ body: (NoiseRun) throws -> Void) throws {
    try Methods.$all.withValue(Methods.all + [Multiview.self]) {
      let tiny = try NoiseRun()
      try tiny.write("colour", images: 40, channels: 3, seed: 4)
      try tiny.write("more", images: 24, channels: 3, seed: 5)
      try body(tiny)
    }
  }

  private func request(_ tiny: NoiseRun, _ changes: [String] = []) throws -> PretrainRequest {
    var request = try tiny.request("", Self.changes + changes, data: ["data": tiny.path + "/colour"])
    request.heldOut = ["data": tiny.path + "/more"]
    return request
  }

  /// Both encoders are kept with what each is fed, judged side by side, and exported one by one.
  @Test func bothEncodersAreTheResult() throws {
    try with { tiny in
      #expect(try tiny.train(request(tiny)) == .complete)
      #expect(try tiny.metrics().contains { $0["knn_top1"] != nil })
      let encoder = try FrozenEncoder(run: tiny.run.path)
      #expect(encoder.sources.map(\.name) == ["lightness", "colour"])
      #expect(encoder.sources.map(\.input.mean) == [[0.5], [0.5, 0.5]])
      #expect(encoder.sources.map(\.input.selections) == [[.lightness], [.colour]])
      #expect(encoder.sources.map(\.input.imageChannels) == [3, 3])
      #expect(encoder.sources[0].state.checksum != encoder.sources[1].state.checksum)

      let data = try DataSet(at: tiny.path + "/colour")
      let context = Context()
      let both = try FeatureExtractor(encoder.sources, context: context).features(of: data, [3, 7])
      let alone = try encoder.sources.map {
        try FeatureExtractor([$0], context: context).features(of: data, [3, 7])
      }
      for row in 0..<2 {
        let columns = row * 32..<(row + 1) * 32
        #expect(Array(both[row * 64..<row * 64 + 32]) == Array(alone[0][columns]))
        #expect(Array(both[row * 64 + 32..<row * 64 + 64]) == Array(alone[1][columns]))
      }
      #expect(Set(both).count > 20)

      let comparison = Comparison(
        encoder, train: data, test: try DataSet(at: tiny.path + "/more"), context: context)
      let outcome = try comparison.run(encoder.subject(tiny.run.path)) { _ in }
      #expect(outcome.record.notes == ["features of the encoders lightness, colour stand side by side"])
      #expect(Set(outcome.record.results.map(\.features)) == ["learned", "random weights", "raw pixels"])

      let file = tiny.path + "/colour.safetensors"
      let source = try encoder.source("colour")
      try Weights.export(source.state, metadata: [:], to: file)
      #expect(try Safetensors.read(file).shape("conv1.weight")[1] == 2)
      #expect(throws: RunError.self) { _ = try encoder.source(nil) }
      let unknown = #expect(throws: RunError.self) { _ = try encoder.source("color") }
      #expect("\(try #require(unknown))".contains("did you mean `colour`?"))
    }
  }

  /// A next stage starts with both encoders, and a stopped run ends with the same bits.
  @Test func bothEncodersAreCarriedAndResumed() throws {
    try with { tiny in
      let stages = ["stages=[{name: a}, {name: b}]"]
      try tiny.train(request(tiny, stages))
      for stop in [2, 4, 6] {
        try with { other in
          let stopped = try other.train(request(other, stages), stopAfter: stop)
          let ended = try other.train(request(other, stages))
          #expect(stopped == .stopped && ended == .complete)
          for step in [4, 8] {
            let (found, expected) = (try other.arrays(step), try tiny.arrays(step))
            #expect(found == expected, "\(stop), \(step)")
          }
        }
      }
      let context = Context()
      let plan = try Plan(request(tiny, stages), context)
      let stageRun = try plan.make(1, context)
      let checkpoint = tiny.run.checkpoints + "/" + Checkpoint.name(step: 4)
      _ = try stageRun.start(from: plan.stages[1].start, context.communicator) { _ in checkpoint }
      let first = try FrozenEncoder(run: tiny.run.path, .step(4))
      for (trained, source) in zip(stageRun.method.trained, first.sources) {
        let found = arrays(of: trained.state)
        for (name, values) in arrays(of: source.state) { #expect(found[name] == values, "\(name)") }
      }
    }
  }

  /// One encoder can see a part of the channels: it is fed the same when it is judged.
  @Test func oneEncoderMaySeeAPartOfTheChannels() throws {
    try with { tiny in
      let view = "{count: 2, size: 8, operations: [{crop: {}}, {channels: 2}, {normalise: dataset}]}"
      let request = try tiny.request("", ["views=[\(view)]"], data: ["data": tiny.path + "/colour"])
      try tiny.train(request)
      let encoder = try FrozenEncoder(run: tiny.run.path)
      #expect(encoder.input.channels == 1 && encoder.input.imageChannels == 3)
      #expect(encoder.input.mean == [0.5] && encoder.input.selections == [.one(2)])
      // The pixels that it is fed are those of the third channel.
      let data = try DataSet(at: tiny.path + "/colour")
      var one = [Float](repeating: 0, count: 64)
      var all = [Float](repeating: 0, count: 192)
      let context = Context()
      try encoder.input.fill(data, samples: [5], into: &one, context.team)
      let whole = EncoderInput(size: 8, mean: [0.5, 0.5, 0.5], deviation: [0.3, 0.3, 0.3])
      try whole.fill(data, samples: [5], into: &all, context.team)
      #expect(one == (0..<64).map { all[3 * $0 + 2] })
    }
  }

  /// Kinds of view of other channels need a method that has an encoder for each.
  @Test func oneEncoderCannotSeeViewsOfOtherChannels() throws {
    try with { tiny in
      let views = Self.changes[1].replacing("{size", with: "{count: 2, size")
      let swav = "method={name: swav, prototypes: 8, head: [16]}"
      let request = try tiny.request("", [views, swav], data: ["data": tiny.path + "/colour"])
      let refusal = try #require(tiny.refusal(request))
      #expect(refusal.contains("kind 2 has 2 channels, kind 1 has 1, and swav has one encoder for all"), "\(refusal)")
    }
  }
}
