import ArgumentParser
import Training

struct DistilCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "distil",
    abstract: "Trains a student to tell classes as a teacher does, on images with or without labels.",
    discussion: """
      A short form of a recipe, `distil` where none is given: views and encoder are those of the teacher, unless \
      --encoder or --width name another one. The whole recipe is printed, and is RUN/recipe.yaml. All that holds for \
      `apus pretrain` holds here.
      """)

  @Argument(help: "The teacher: a run that tells classes, such as one of `apus finetune`.")
  var path: String

  @OptionGroup var options: TrainingOptions

  @Option(help: "The student's encoder, such as resnet18 (default: the teacher's).")
  var encoder: String?

  @Option(help: "Factor on its channels (default: the teacher's).")
  var width: Double?

  @Option(help: "Labels that are learned as well, as for `apus finetune`; with method.alpha below 1.")
  var labels: String?

  @Option(help: "A recipe of the method distil: a file or a name.")
  var recipe = "distil"

  func run() throws {
    try options.train { context in
      let teacher = try Pretrained(run: path, context.communicator)
      return try teacher.distillation(
        recipe, encoder: encoder, width: width, labels: labels, overrides: options.overrides)
    }
  }
}
