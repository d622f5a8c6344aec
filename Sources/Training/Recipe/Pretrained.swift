import Engine
import Foundation
import Ranks
import Shards

/// A run that another training starts from or learns from, and the recipes of such trainings: what `apus finetune` and
/// `apus distil` are short for.
package struct Pretrained {
  /// The run's folder.
  private let path: String
  /// The stage that its result was trained in.
  private let stage: Stage
  /// What its encoder was fed.
  private let input: EncoderInput

  /// All ranks make this call.
  package init(run path: String, _ communicator: any Communicator) throws {
    let encoder = try FrozenEncoder(run: path, .result, communicator)
    guard encoder.sources.count == 1 else {
      throw RunError("\(path) has \(encoder.sources.count) encoders, each for a view of its own; give another run")
    }
    self.path = path
    stage = encoder.stage
    input = encoder.input
  }

  /// The recipe of a fine-tuning: a recipe of the method `supervised`, with this run's encoder, views and first layers.
  /// - Parameters:
  ///   - source: a file or a name.
  ///   - layers: of the head that stay below the classifier; nil for what the recipe says, else for 1 of a head of
  ///     several.
  ///   - labels: as in `data.labels`; nil for the recipe's.
  ///   - data: the data sets by name; where that of the recipe has fewer labels than its batch, the batch is as small.
  package func fineTuning(
    _ source: String, layers: Int?, labels: String?, data: [String: String], overrides: [String]
  ) throws -> Recipe {
    let base = try Recipe(source)
    guard base.stages.count == 1, let method = base.stages[0].method.value as? Supervised else {
      throw RecipeError("recipe \(source): a fine-tuning is one stage of the method supervised; give another --recipe")
    }
    let features = stage.encoder.options(channels: input.channels).features
    let head = stage.method.value.heads(features: features, classes: 2).first { $0.name == .head }?.layers ?? []
    let isSaid = try layers == nil && Recipe.text(of: source).replacing(/#.*/, with: "").contains(/\blayers:/)
    let kept = layers ?? (isSaid ? method.classifier.layers.count : min(1, head.count - 1))
    guard kept <= head.count else {
      throw RecipeError("\(kept) layers are to be kept, but the head of \(path) has \(head.count): take fewer --layers")
    }
    let names = ["encoder"] + PartName.head.layers(0..<max(0, kept)).map(\.rawValue)
    var own = [
      "encoder=\(try json(stage.encoder))", "views=\(try json([plainView(normalise: nil)]))",
      "start=\(try json(StageStart(from: .run(path), carry: names)))",
    ]
    if !isSaid {
      let layers = head.prefix(max(0, kept)).map { HeadLayer($0, features: features) }
      own.append("method.classifier.layers=\(try json(layers))")
    }
    let recipe = try Recipe(source, overrides: own + chosen(labels) + overrides)
    let wanted = recipe.stages[0].data
    guard let path = data[wanted.set], !overrides.contains(where: { $0.hasPrefix("batch=") }) else { return recipe }
    let set = try DataSet(at: Trainer.paths(path, nil).train)
    let count = try LabelSelection(
      set, wanted.labels ?? .all, validation: wanted.validation, seed: recipe.seed
    ).training.count
    if count >= recipe.stages[0].batch || count < 2 { return recipe }
    return try Recipe(source, overrides: own + chosen(labels) + ["batch=\(count)"] + overrides)
  }

  /// The recipe of a distillation: a recipe of the method `distil`, with this run as the teacher, and its views.
  /// - Parameters:
  ///   - recipe: a file or a name.
  ///   - encoder: the student's; nil for the teacher's.
  ///   - width: of the student's; nil for the teacher's.
  ///   - labels: as in `data.labels`; nil for the recipe's.
  package func distillation(
    _ recipe: String, encoder name: String?, width: Double?, labels: String?, overrides: [String]
  ) throws -> Recipe {
    var encoder = stage.encoder
    if let name {
      guard let depth = ResNet.Depth(rawValue: name) else {
        let known = ResNet.Depth.allCases.map(\.rawValue)
        throw RecipeError("there is no encoder `\(name)`\(suggestion(for: name, in: known)) there are \(listed(known))")
      }
      encoder.name = depth
      if !depth.hasBottlenecks { encoder.selectiveKernels = 0 }
    }
    if let width { encoder.width = width }
    let numbers = Normalise.explicit(mean: input.mean, deviation: input.deviation)
    return try Recipe(
      recipe,
      overrides: [
        "encoder=\(json(encoder))", "views=\(json([plainView(normalise: numbers)]))",
        "method.teacher=\(json("run \(path)"))",
      ] + chosen(labels) + overrides)
  }

  private func chosen(_ labels: String?) throws -> [String] {
    guard let labels else { return [] }
    guard let choice = LabelChoice(labels) else {
      throw RecipeError("--labels is `\(labels)`; it can be all, a share such as 1%, a number, or a file")
    }
    return ["data.labels=\(try json(choice))"]
  }

  /// The run's view without what hides an image's class least: crop and flip alone, as SimCLR fine-tunes and distils.
  /// - Parameter normalise: nil for the run's own way.
  private func plainView(normalise: Normalise?) -> ViewRecipe {
    var view = stage.views[0]
    view.count = 1
    view.same = []
    view.operations = view.operations.filter { row in
      row.body is any Framing || row.body is Flip || row.body is Channels || row.body is Normalise
    }
    if let normalise, view.operations.last?.body is Normalise {
      view.operations[view.operations.count - 1] = Shards.Operation(normalise)
    }
    return view
  }

  /// JSON, which is YAML as well, with every digit.
  private func json(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }
}
