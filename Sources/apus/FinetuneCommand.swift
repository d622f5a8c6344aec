import ArgumentParser
import Training

struct FinetuneCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "finetune",
    abstract: "Trains a classifier on a pre-trained encoder, from labelled images.",
    discussion: """
      A short form of a recipe, `finetune` where none is given: encoder, views and kept layers of the head are those \
      of the run that it starts from. The whole recipe is printed, and is RUN/recipe.yaml. All that holds for `apus \
      pretrain` holds here. `--set data.validation=10%` keeps a part of the labels to choose the best checkpoint by.
      """)

  @Argument(help: "The run to start from.")
  var path: String

  @OptionGroup var options: TrainingOptions

  @Option(help: "The labels that are used: all, a share such as 1%, a number, or a file with an image's key a line.")
  var labels: String?

  @Option(
    help: """
      Layers of the pre-trained head that stay below the classifier (default: the recipe's, else 1 of a head of \
      several).
      """)
  var layers: Int?

  @Option(help: "A recipe of the method supervised: a file or a name.")
  var recipe = "finetune"

  func validate() throws {
    if let layers, layers < 0 { throw ValidationError("--layers is \(layers); it must be 0 or more") }
  }

  func run() throws {
    try options.train { context in
      let origin = try Pretrained(run: path, context.communicator)
      return try origin.fineTuning(
        recipe, layers: layers, labels: labels, data: try PretrainRequest.named(options.data, option: "--data"),
        overrides: options.overrides)
    }
  }
}
