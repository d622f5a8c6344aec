import ArgumentParser
import Engine
import Shards
import Training

struct ExportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Write a run's encoder as safetensors with torchvision's names and layouts.",
    discussion: "The file is read back and its features are compared before it is reported as written.")

  @Argument(help: "A run's folder.")
  var path: String

  @Argument(help: "The file to write.")
  var out: String

  @Option(help: "Also write images (N, C, H, W) and their features, to check another program's against.")
  var probe: String?

  @Option(help: "Images for the probe (default: drawn at random).")
  var data: String?

  func run() throws {
    try Job.run(threads: nil) { context in
      guard context.communicator.isRoot else { return }
      let encoder = try FrozenEncoder(run: path)
      for notice in encoder.notices { print(notice) }
      let metadata = [
        "format": "pt", "apus.recipe": try encoder.recipe.yaml, "apus.encoder": encoder.stage.encoder.name.rawValue,
        "apus.width": "\(encoder.stage.encoder.width)", "apus.stem": encoder.stage.encoder.stem.rawValue,
        "apus.variant": encoder.stage.encoder.variant.rawValue,
        "apus.selectiveKernels": "\(encoder.stage.encoder.selectiveKernels)",
        "apus.channels": "\(encoder.input.channels)", "apus.step": "\(encoder.step)",
        Weights.inputKey: try encoder.input.json,
      ]
      try Weights.export(encoder.state, metadata: metadata, to: out)
      let proof = ExportProof(encoder, context: context)
      let images = try proof.images(from: data.map { try DataSet(at: Trainer.paths($0, nil).train) })
      try proof.check(out, images)
      if let probe { try proof.write(images, to: probe) }
      print(
        "\(out): \(encoder.network.parameters.parameterCount) parameters after \(encoder.step) steps, read back, same features"
      )
    }
  }
}
