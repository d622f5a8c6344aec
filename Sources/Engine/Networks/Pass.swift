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

/// One traversal of a network: its context, values, mode and BN groups.
package struct Pass {
  package let context: Context
  package let state: NetworkState
  package let mode: Mode
  package let groups: BatchGroups
  /// Where backward adds the gradients; the same layout as the parameters.
  package let gradients: ParameterSlab?
  /// If set, gradients are sent as soon as backward has finished them.
  package let reducer: GradientReducer?
  /// The weight of this pass's batch in the running statistics.
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

  /// The same, but nothing is kept for backward.
  var withoutRecord: Pass {
    Pass(
      context, state, mode.usesBatchStatistics ? .target : .inference, groups, runningWeight: runningWeight)
  }
}
