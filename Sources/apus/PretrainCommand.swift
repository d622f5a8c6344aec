import ArgumentParser
import Training

struct PretrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pretrain",
    abstract: "Trains an encoder on unlabelled images; goes on where the run in --run stopped.",
    discussion: """
      Alone or under a launcher: mpirun -n 8 apus pretrain simclr-v1-fashion --data images --run runs/first
      Rank and size come from MPI. TERM, USR1 and HUP write a checkpoint and end with status 0; RUN/complete says that \
      the run is done.
      """)

  @Argument(help: "A recipe file, or the name of a built-in recipe (apus recipes lists them).")
  var recipe: String

  @OptionGroup var options: TrainingOptions

  @Option(name: .customLong("init"), help: "Start from an encoder: safetensors with torchvision's names.")
  var weights: String?

  func run() throws {
    try options.train(from: weights) { _ in try Recipe(recipe, overrides: options.overrides) }
  }
}
