/// Turns gradients into an update of the parameters. Gradients are never changed. State is one slab of momentum.
package protocol Optimizer: Sendable {
  /// - Parameters:
  ///   - parameters: updated.
  ///   - gradients: summed over ranks, scaled by the loss.
  ///   - momentum: v, starts at 0; same layout.
  ///   - rate: the schedule's value at this step.
  func update(
    _ parameters: ParameterSlab, _ gradients: ParameterSlab, momentum: ParameterSlab, rate: Float, _ context: Context)
}

/// Which kinds of parameters an optimizer leaves out of decay and trust.
package enum Exclusion: String, Codable, Sendable, CaseIterable {
  case normalisation, bias

  package func covers(_ kind: ParameterKind) -> Bool {
    switch self {
    case .normalisation: kind == .scale || kind == .shift
    case .bias: kind == .bias
    }
  }
}
