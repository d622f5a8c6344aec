import ArgumentParser
import Engine
import Training

/// What every command that trains takes beside its recipe.
struct TrainingOptions: ParsableArguments {
  @Option(
    help: """
      A data set that `apus pack` made; with --split, the folder that holds train and test. Where the stages of a \
      recipe read several, NAME=PATH for each.
      """)
  var data: [String] = []

  @Option(name: .customLong("run"), help: "The run's folder: metrics, checkpoints, report.")
  var folder: String

  @Option(help: "Held-out images to watch the training by (default: DATA/test, where it is); NAME=PATH as for --data.")
  var test: [String] = []

  @Option(
    name: .customLong("set"), help: "Override a field of the recipe, such as optimizer.rate=0.6. Can be repeated.")
  var overrides: [String] = []

  @Option(help: "Compute threads of each rank (default: what the launcher bound).")
  var threads: Int?

  @Option(help: "Threads of each rank that load and augment.")
  var loaderThreads = 1

  @Flag(help: "Go on with a run although its data are others now.")
  var force = false

  @Flag(help: "Train from the start although RUN holds a run, which is moved to RUN/earlier-1.")
  var restart = false

  func validate() throws {
    for (name, value) in [("--threads", threads ?? 1), ("--loader-threads", loaderThreads)]
    where !(1...1024).contains(value) {
      throw ValidationError("\(name) is \(value); it must be 1 to 1024")
    }
  }

  /// Trains by a recipe.
  /// - Parameters:
  ///   - weights: an encoder that the first stage starts from.
  ///   - recipe: made once MPI is up, so that an error is said once.
  func train(from weights: String? = nil, _ recipe: (Context) throws -> Recipe) throws {
    try Job.run(threads: threads, stops: true) { context in
      var request = PretrainRequest(
        recipe: try recipe(context), data: try PretrainRequest.named(data, option: "--data"), run: folder)
      request.heldOut = try PretrainRequest.named(test, option: "--test")
      if let weights { try request.start(from: weights) }
      request.loaderThreads = loaderThreads
      request.force = force
      request.restarts = restart
      _ = try Trainer(request, context).run()
    }
  }
}
