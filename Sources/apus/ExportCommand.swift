import ArgumentParser
import Engine
import Files
import Shards
import Training

struct ExportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Write a run's encoder as safetensors with torchvision's names and layouts.",
    discussion: """
      The file is read back and its features are compared before it is reported as written. Its metadata say what the \
      encoder is fed: size, mean and deviation in numbers.
      """)

  @Argument(help: "A run's folder.")
  var path: String

  @Argument(help: "The file to write.")
  var out: String

  @OptionGroup var checkpoint: CheckpointChoice

  @Option(help: "Which encoder, for a method that has several.")
  var encoder: String?

  @Option(help: "Also write images (N, C, H, W) and their features, to check another program's against.")
  var probe: String?

  @Option(help: "Images for the probe (default: drawn at random).")
  var data: String?

  func run() throws {
    try Job.run(threads: nil) { context in
      guard context.communicator.isRoot else { return }
      try AtomicFile.requireFile(out)
      let frozen = try FrozenEncoder(run: path, checkpoint.choice)
      let source = try frozen.source(encoder)
      for notice in frozen.notices { print(notice) }
      let proof = ExportProof(source, context: context)
      let images = try proof.images(from: data.map { try DataSet(at: Trainer.paths($0, nil).train) })
      try Weights.export(source.state, metadata: metadata(of: source, frozen), to: out)
      try proof.check(out, images)
      if let probe { try proof.write(images, to: probe) }
      let parameters = source.network.parameters.parameterCount
      print("\(out): \(parameters) parameters after \(frozen.step) steps, read back, same features")
    }
  }

  /// Metadata of the file: where the encoder comes from.
  private func metadata(of source: FeatureSource, _ frozen: FrozenEncoder) throws -> [String: String] {
    let recipe = frozen.stage.encoder
    return [
      "format": "pt", Weights.recipeKey: try frozen.recipe.yaml, Weights.stageKey: frozen.stage.name,
      "apus.encoder": recipe.name.rawValue,
      "apus.width": "\(recipe.width)", "apus.stem": recipe.stem.rawValue, "apus.variant": recipe.variant.rawValue,
      "apus.selectiveKernels": "\(recipe.selectiveKernels)", "apus.channels": "\(source.input.channels)",
      "apus.step": "\(frozen.step)", Weights.inputKey: try source.input.json,
    ]
  }
}
