import Engine
import Shards

/// Bytes that a stage needs on one rank.
package struct StageMemory: Sendable, Equatable {
  /// Activations and workspace of the largest step and of evaluation.
  package var activations = 0
  /// What a checkpoint holds of this rank: parameters, statistics, the optimizer's, queues and banks.
  package var state = 0
  package var gradients = 0
  /// Weights of networks that the method asks.
  package var teachers = 0
  /// What a method keeps from one step to the next besides its state.
  package var kept = 0
  /// Batches ahead.
  package var batches = 0
  /// Encoded images that the loader keeps for later steps.
  package var cache = 0
  /// The tables of training and held-out images: where each lies, and what it is.
  package var index = 0
  /// Features that the monitor compares, and their copies while ranks exchange them.
  package var monitor = 0

  package init() {}

  package var total: Int { activations + state + gradients + teachers + kept + batches + cache + index + monitor }
}

extension StageMemory: CustomStringConvertible {
  package var description: String {
    let parts = [
      (activations, "activations"), (state, "state"), (gradients + kept, "gradients"), (teachers, "teachers"),
      (batches, "batches ahead"),
      (cache, "images kept for later"), (index, "index of the images"), (monitor, "the monitor's features"),
    ]
    let words = parts.filter { megabytes($0.0) > 1 || $0.1 == "state" || $0.1 == "activations" }
      .map { "\(megabytes($0.0)) \($0.1)" }
    return "\(megabytes(total)) MiB a rank: " + words.joined(separator: ", ")
  }
}
