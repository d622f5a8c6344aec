import Engine
import Shards

/// One stage of a run: data, encoder, method, and how it is trained. A run is a list of stages even where there is one.
package struct Stage: Codable, Sendable {
  package var name: String
  package var encoder: EncoderRecipe
  package var views: [ViewRecipe]
  package var method: AnyMethodRecipe
  package var batchNorm: BatchNormRecipe
  package var optimizer: OptimizerRecipe
  /// Which parameters train, and how fast; all at the same rate where there are no rules.
  package var parameters: [ParameterRule]
  package var schedule: Schedule
  /// Images of the global batch.
  package var batch: Int
  /// Parts that a rank's share of the batch is computed in, one after the other, where that is exact.
  package var accumulate: Int
  package var length: Length
  package var data: DataRecipe
  package var start: StageStart
  package var monitor: MonitorRecipe
  package var checkpoint: CheckpointRecipe
  /// Steps between two lines of metrics.
  package var log: Length
  package var convolution: ConvolutionAlgorithm

  enum CodingKeys: String, CodingKey, CaseIterable {
    case name, encoder, views, method, batchNorm, optimizer, parameters, schedule, batch, accumulate, length, data,
      start, monitor, checkpoint, log, convolution
  }

  package init(from decoder: any Decoder) throws {
    let values = try decoder.strict(CodingKeys.self, of: "a recipe")
    name = try values.value(.name, default: "pretrain")
    encoder = try values.value(EncoderRecipe.self, forKey: .encoder)
    views = try values.value([ViewRecipe].self, forKey: .views)
    method = try values.decode(AnyMethodRecipe.self, forKey: .method)
    batchNorm = try values.value(.batchNorm, default: BatchNormRecipe(.global))
    optimizer = try values.decode(OptimizerRecipe.self, forKey: .optimizer)
    parameters = try values.value(.parameters, default: [])
    schedule = try values.value(.schedule, default: Schedule())
    batch = try values.decode(Int.self, forKey: .batch)
    accumulate = try values.value(.accumulate, default: 1)
    length = try values.decode(Length.self, forKey: .length)
    data = try values.value(.data, default: DataRecipe())
    start = try values.value(.start, default: StageStart(from: .previous))
    monitor = try values.value(.monitor, default: MonitorRecipe())
    checkpoint = try values.value(.checkpoint, default: CheckpointRecipe())
    log = try values.value(.log, default: .steps(10))
    convolution = try values.value(.convolution, default: .fast)
    guard (2...(1 << 20)).contains(batch) else {
      throw decoder.invalid("`batch` is \(batch); it must be 2 to 1048576 images")
    }
    guard (1...batch).contains(accumulate) else {
      throw decoder.invalid("`accumulate` is \(accumulate); it must be 1 to the batch, \(batch)")
    }
    guard !views.isEmpty else { throw decoder.invalid("`views` is empty; list at least one kind of view") }
    method = AnyMethodRecipe(method.value.completed(for: optimizer.algorithm))
    do { try log.requireAboveZero("log") } catch { throw decoder.invalid(error.description) }
    if case .percent = length {
      throw decoder.invalid("`length` is a percentage of itself; give epochs, steps or images")
    }
  }
}

extension Stage {
  /// Refuses what cannot be run whatever the data are.
  func check() throws(RecipeError) {
    for view in views where !(1...16).contains(where: { (try? view.validate(channels: $0)) != nil }) {
      _ = try view.validate(channels: 3)
    }
    _ = try method.value.validate(self, images: 1 << 40)
  }
}

/// How the batch is divided for normalisation: `global`, `{group: 32}` or `{shuffle: 32}` (images).
package struct BatchNormRecipe: Codable, Sendable, Equatable {
  package var groups: NormalisationGroups
  package init(_ groups: NormalisationGroups) { self.groups = groups }

  private enum Keys: String, CodingKey, CaseIterable { case group, shuffle }

  package init(from decoder: any Decoder) throws {
    if let word = try? decoder.singleValueContainer().decode(String.self) {
      guard word == "global" else {
        throw decoder.invalid("batchNorm is `\(word)`; it can be `global`, `{group: IMAGES}` or `{shuffle: IMAGES}`")
      }
      groups = .global
      return
    }
    let values = try decoder.strict(Keys.self, of: "batchNorm")
    let group = try values.decodeIfPresent(Int.self, forKey: .group)
    let shuffle = try values.decodeIfPresent(Int.self, forKey: .shuffle)
    switch (group, shuffle) {
    case (let images?, nil) where images >= 2: groups = .group(images: images)
    case (nil, let images?) where images >= 2: groups = .shuffle(images: images)
    default: throw decoder.invalid("batchNorm needs either `group` or `shuffle`, with at least 2 images in a group")
    }
  }

  package func encode(to encoder: any Encoder) throws {
    switch groups {
    case .global:
      var container = encoder.singleValueContainer()
      try container.encode("global")
    case .group(let images):
      var container = encoder.container(keyedBy: Keys.self)
      try container.encode(images, forKey: .group)
    case .shuffle(let images):
      var container = encoder.container(keyedBy: Keys.self)
      try container.encode(images, forKey: .shuffle)
    }
  }
}

/// Which data set, and in which order it is read.
package struct DataRecipe: Options, Sendable, Equatable {
  package static let title = "data"

  /// The name that a plain `--data PATH` gives to its data set.
  package static let defaultSet = "data"

  /// The data set, as `--data NAME=PATH` names it.
  package var set = DataRecipe.defaultSet
  /// The rest of an epoch that fills no batch.
  package var last: LastBatch = .drop
  package var decode: DecodeMode = .full
  /// Neighbouring samples that are read together, and blocks that are mixed with one another; both at most.
  package var block = 16
  package var window = 64
  /// MiB of encoded images that are kept for each image of the batch, so that reads are sequential.
  package var cache = 16
  /// Batches made ahead.
  package var ahead = 3

  package init() {}

  package func check() throws(RecipeError) {
    for (key, value) in [("block", block), ("window", window), ("cache", cache), ("ahead", ahead)] {
      try require(key, value, in: 1...65536)
    }
  }
}

extension ReadPlan {
  /// As a recipe says.
  init(_ source: any ImageSource, batch: Int, seed: UInt64, _ recipe: DataRecipe) throws {
    try self.init(
      source, batch: batch, seed: seed, block: recipe.block, window: recipe.window, cache: recipe.cache << 20,
      last: recipe.last)
  }
}

/// kNN on held-out images while training.
package struct MonitorRecipe: Options, Sendable, Equatable {
  package static let title = "monitor"

  /// How often; `0 steps` for the end alone.
  package var every: Length = .percent(10)
  /// Labelled images that are taken from the training set and from the held-out set.
  package var train = 4000
  package var test = 1000

  package init() {}

  package func check() throws(RecipeError) {
    guard train > 0, test > 0 else {
      throw RecipeError("`train` is \(train) and `test` \(test) images; both must be above 0")
    }
  }
}

/// When checkpoints are written, besides at the end and on a signal.
package struct CheckpointRecipe: Options, Sendable, Equatable {
  package static let title = "checkpoint"

  package var every: Length = .epochs(1)
  /// By the clock, whatever the steps.
  package var minutes = 15.0
  /// How many are kept, at least 2.
  package var keep = 2

  package init() {}

  package func check() throws(RecipeError) {
    guard keep >= 2, minutes > 0 else {
      throw RecipeError("`keep` is \(keep) and `minutes` \(minutes); at least 2 are kept, minutes are above 0")
    }
    try every.requireAboveZero("every")
  }
}
