import Engine
import Ranks
import Shards

/// What a stage will take, known before its first step.
package struct StageCost: Sendable, Equatable {
  package let steps: Int
  /// An estimate of its arithmetic alone, on all ranks; nil where nothing was counted.
  package let seconds: Double?
  /// Bytes of a rank's memory.
  package let memory: Int
  /// Bytes of a checkpoint, and how many are there at the end of the stage and while it lasts.
  package let checkpoint: Int
  package let keep: Int

  /// Share of a roof that a step's parts reach on average (Speed.md), and what else is relative to multiply-adds:
  /// Winograd's convolution counts as a direct one, and memory moves about a byte in the time of 8 operations.
  private static let share = 0.85
  private static let winograd = 2.3
  private static let operationsPerByte = 8.0

  /// - Parameters:
  ///   - work: of a dry step.
  ///   - rate: multiply-adds of this rank, FLOP/s.
  init(_ stageRun: StageRun, work: Profile, rate: Double) {
    steps = stageRun.plan.totalSteps
    memory = stageRun.memory.total
    checkpoint = stageRun.checkpointBytes
    keep = stageRun.stage.checkpoint.keep
    let step = work.parts.reduce(0) { sum, part in
      switch part.key.roof {
      case .winograd: sum + part.value.operations / Self.winograd
      case .arithmetic: sum + part.value.operations
      case .memory, .none: sum + part.value.bytes * Self.operationsPerByte + part.value.operations
      }
    }
    seconds = step > 0 ? Double(steps) * step / (Self.share * rate) : nil
  }

  /// Such as `3 hours`, `20 minutes` or `40 s`.
  package static func words(_ seconds: Double) -> String {
    switch seconds {
    case ..<90: "\(Int(seconds.rounded(.up))) s"
    case ..<5400: "\(Int((seconds / 60).rounded())) minutes"
    case ..<36000: "\(significant((seconds / 360).rounded() / 10)) hours"
    default: "\(grouped(Int((seconds / 3600).rounded()))) hours"
    }
  }
}
