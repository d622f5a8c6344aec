/// How a network runs.
package enum Mode: Sendable {
  /// Batch statistics, running statistics updated, backward follows.
  case train
  /// Batch statistics, running statistics updated, no backward: key and target encoders.
  case target
  /// Running statistics, backward follows: fine-tuning with frozen normalisation.
  case frozen
  /// Running statistics, nothing kept: features for evaluation.
  case inference

  package var usesBatchStatistics: Bool { self == .train || self == .target }
  /// Whether what backward needs is kept.
  package var records: Bool { self == .train || self == .frozen }
}

/// The values that a network runs with: parameters, and the running statistics of its normalisations. The same network
/// runs with a query's or a key's state.
package final class NetworkState {
  package let parameters: ParameterSlab
  package let statistics: ParameterSlab

  package init(_ parameters: ParameterLayout, _ statistics: ParameterLayout) {
    self.parameters = ParameterSlab(parameters)
    self.statistics = ParameterSlab(statistics)
  }

  /// Every parameter as its layout says, keyed by (seed, name).
  package func initialise(seed: UInt64) {
    for slab in [parameters, statistics] {
      for entry in slab.layout.entries {
        entry.initialisation.fill(
          UnsafeMutableBufferPointer(start: slab[entry.slice], count: entry.slice.count), seed: seed, name: entry.name)
      }
    }
  }

  package func copy(_ other: NetworkState) {
    parameters.copy(other.parameters)
    statistics.copy(other.statistics)
  }

  /// The encoder of a network whose head may be another one.
  package func copyEncoder(_ other: NetworkState) {
    for (to, from) in [(parameters, other.parameters), (statistics, other.statistics)] {
      for entry in to.layout.entries where entry.name.hasPrefix("encoder.") {
        guard let source = from.layout.entry(entry.name), source.shape == entry.shape else {
          preconditionFailure(
            "\(entry.name) of \(entry.shape) copied from \(from.layout.entry(entry.name)?.shape ?? [])")
        }
        to[entry.slice].update(from: from[source.slice], count: entry.slice.count)
      }
    }
  }
}

/// One traversal of a network: where it computes, with which values, in which mode, over which BN groups.
package struct Pass {
  package let context: Context
  package let state: NetworkState
  package let mode: Mode
  package let groups: BatchGroups
  /// Where backward adds the parameters' gradients; same layout as the parameters.
  package let gradients: ParameterSlab?
  /// Where set, gradients travel as backward finishes them.
  package let reducer: GradientReducer?
  /// Weight of this pass in the running statistics.
  package let runningWeight: Double

  package init(
    _ context: Context, _ state: NetworkState, _ mode: Mode, _ groups: BatchGroups, gradients: ParameterSlab? = nil,
    reducer: GradientReducer? = nil, runningWeight: Double = BatchNorm.runningWeight
  ) {
    precondition(!mode.records || gradients != nil, "a pass that records needs a place for gradients")
    self.context = context
    self.state = state
    self.mode = mode
    self.groups = groups
    self.gradients = gradients
    self.reducer = reducer
    self.runningWeight = runningWeight
  }

  package var arena: Arena { context.arena }
}
