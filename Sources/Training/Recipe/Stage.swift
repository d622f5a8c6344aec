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
  /// The data set, as `--data NAME=PATH` names it, on whose labelled images the encoder is judged at the end of the
  /// stage; nil for none.
  package var evaluate: String?
  package var checkpoint: CheckpointRecipe
  /// Steps between two lines of metrics.
  package var log: Length
  package var convolution: ConvolutionAlgorithm

  enum CodingKeys: String, CodingKey, CaseIterable {
    case name, encoder, views, method, batchNorm, optimizer, parameters, schedule, batch, accumulate, length, data,
      start, monitor, evaluate, checkpoint, log, convolution
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
    evaluate = try values.decodeIfPresent(String.self, forKey: .evaluate)
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
