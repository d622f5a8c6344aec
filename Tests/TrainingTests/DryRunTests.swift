import Engine
import Ranks
import Shards
import Testing
import Training

/// Plans every built-in recipe with pretended ranks, as many as give each 16 images.
@Suite(.serialized) struct DryRunTests {
  /// Number of candidates in the papers: the positive and K negatives, 2N − 1 views, or prototypes.
  private static let candidates: [String: Int] = [
    "adco-imagenet": 65537, "end-to-end-imagenet": 1024, "memory-bank-imagenet": 4097, "moco-v1-ig1b": 65537,
    "moco-v1-imagenet": 65537, "moco-v2-imagenet": 65537, "simclr-v1-imagenet": 8191, "simclr-v2-imagenet": 8191,
    "swav-imagenet": 3000,
  ]

  @Test(arguments: BuiltInRecipes.names) func builtInRecipesArePlanned(_ name: String) throws {
    let images = name.hasSuffix("imagenet") ? 1_281_167 : 100_000
    for stage in try Recipe(name).stages {
      let ranks = max(1, stage.batch / 16)
      let rank = ranks - 1
      let own = share(of: stage.batch, rank: rank, ranks: ranks).count
      let context = Context(communicator: PretendedRanks(rank, of: ranks))
      context.convolution = stage.convolution
      let plan = RunPlan(stepsPerEpoch: images / stage.batch, batch: stage.batch, length: stage.length)
      let channels = name.hasSuffix("tiles") || name.hasSuffix("fashion") ? 1 : 3
      let method = stage.method.value.make(
        MethodSetting(
          encoder: stage.encoder.options(channels: channels), normalisation: stage.batchNorm.groups,
          accumulate: stage.accumulate, images: images, classes: 1000,
          teachers: Teacher.drawn(for: stage, EncoderInput(size: 8, channels: channels), classes: 1000), plan: plan,
          context: context))
      let outcome = context.dry {
        method.step(
          MethodInput(
            step: 0, batch: stage.batch,
            shares: (0..<ranks).map { share(of: stage.batch, rank: $0, ranks: ranks).count },
            rank: rank, samples: Array(repeating: 0, count: own),
            views: stage.views.map {
              Tensor(UnsafeMutablePointer(bitPattern: 64)!, n: $0.count * own, h: $0.size, w: $0.size, c: channels)
            }))
      }
      if let expected = Self.candidates[name] { #expect(outcome.figures[.candidates] == Double(expected)) }
      for view in stage.views { _ = try view.validate(channels: channels) }
      // A view of 96 px or more keeps over 5 MiB in ResNet-50's layers, and a rank of 16 images fits into a node.
      let views = stage.views.reduce(0) { $0 + $1.count } * own
      if name.hasSuffix("imagenet") { #expect((views * 5 << 20..<64 << 30).contains(context.arena.peak)) }
      #expect(context.arena.peak > 0 && plan.totalSteps > 0)
    }
  }
}
