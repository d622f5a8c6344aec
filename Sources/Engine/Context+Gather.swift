import Ranks

/// Rows of all ranks.
extension Context {
  /// Gathers every rank's rows in rank order.
  /// - Parameters:
  ///   - shares: images of every rank.
  ///   - views: rows of each image.
  package func gather(_ local: Tensor, shares: [Int], views: Int = 1, into all: Tensor, _ purpose: CollectivePurpose) {
    if isDry { return }
    part(.communication) {
      communicator.allGather(local.data, rows: shares, width: views * local.c, into: all.data, purpose)
    }
  }

  /// Gathers every rank's rows in the order of the global batch, view after view, and keeps them beyond the step.
  /// - local: (V·n, D) of this rank, view after view.
  package func collect(
    _ local: Tensor, shares: [Int], views: Int = 1, into kept: inout [Float], _ purpose: CollectivePurpose
  ) {
    let n = local.n / views
    let batch = shares.reduce(0, +)
    scratch { arena in
      let all = arena.tensor(n: views * batch, c: local.c)
      for view in 0..<views {
        gather(
          local.images(view * n..<(view + 1) * n), shares: shares, into: all.images(view * batch..<(view + 1) * batch),
          purpose)
      }
      if !isDry { kept.replace(with: all) }
    }
  }
}
