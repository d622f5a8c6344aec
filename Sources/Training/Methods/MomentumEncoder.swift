import Engine

/// An encoder that follows a trained one as the moving average of its parameters, as MoCo's keys are made by (He et al.
/// 2019, arXiv:1911.05722, eq. 2). BN's running statistics are its own, and are not averaged.
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

  /// θ_k ← θ, and the running statistics too: a run begins, or another encoder's weights have come.
  func start(from trained: Trained) { key.copy(trained.state) }

  /// θ_k ← θ alone.
  func catchUp(with trained: Trained) { key.parameters.copy(trained.state.parameters) }

  /// θ_k ← m θ_k + (1 − m) θ
  func follow(_ trained: Trained) { key.parameters.blend(toward: trained.state.parameters, momentum: momentum) }

  /// k = f_k(x), each of length one, without gradient.
  /// - Parameter k: (N, D)
  func encode(_ images: Tensor, into k: Tensor, _ groups: BatchGroups, _ context: Context) {
    context.scratch { _ in
      let tape = network.forward(images, Pass(context, key, .target, groups))
      L2Normalise.forward(tape.output, into: k, norms: nil, context)
    }
  }

  var saved: [SavedState] { key.saved("key") }
}
