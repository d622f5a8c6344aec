import Engine

/// An encoder whose parameters are a moving average of a trained one's, as in MoCo (He et al. 2019, arXiv:1911.05722,
/// eq. 2). It has its own BN running statistics, which are not averaged.
struct MomentumEncoder {
  private let network: Network
  private let key: NetworkState
  /// m
  private let momentum: Float

  init(of trained: Trained, momentum: Double) {
    network = trained.network
    key = network.makeState()
    self.momentum = Float(momentum)
  }

  /// θ_k ← θ, including the running statistics: at the start of a run, or after the encoder's weights were replaced.
  func start(from trained: Trained) { key.copy(trained.state) }

  /// θ_k ← θ, without the running statistics.
  func catchUp(with trained: Trained) { key.parameters.copy(trained.state.parameters) }

  /// θ_k ← m θ_k + (1 − m) θ
  func follow(_ trained: Trained) { key.parameters.blend(toward: trained.state.parameters, momentum: momentum) }

  /// k = f_k(x), normalised, without gradient.
  /// - Parameter k: (N, D)
  func encode(_ images: Tensor, into k: Tensor, _ groups: BatchGroups, _ context: Context) {
    context.scratch { _ in
      let tape = network.forward(images, Pass(context, key, .target, groups))
      L2Normalise.forward(tape.output, into: k, norms: nil, context)
    }
  }

  var saved: [SavedState] { key.saved("key") }
}
