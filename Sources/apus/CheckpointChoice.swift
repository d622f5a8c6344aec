import ArgumentParser
import Training

/// The checkpoint of a run that a command uses.
struct CheckpointChoice: ParsableArguments {
  @Option(help: "Of a run: the step whose checkpoint is taken (default: the best by validation, else the newest).")
  var step: Int?

  @Option(help: "Of a run of several stages: the stage whose encoder is taken.")
  var stage: String?

  var isGiven: Bool { step != nil || stage != nil }

  var choice: FrozenEncoder.Choice {
    if let step { return .step(step) }
    if let stage { return .stage(stage) }
    return .result
  }

  func validate() throws {
    if let step, step < 1 { throw ValidationError("--step is \(step); it must be at least 1") }
    if step != nil, stage != nil { throw ValidationError("--step and --stage each name a checkpoint: give one") }
  }
}
