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
