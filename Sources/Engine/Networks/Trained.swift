import Foundation

/// A network in training: its values, gradients, and the optimizer's state.
package final class Trained {
  /// Names its state in a checkpoint, such as `encoder` or `query`.
  package let name: String
  package let network: Network
  package let state: NetworkState
  package let gradients: ParameterSlab
  /// The optimizer's state, by its names, with the parameters' layout.
  package let moments: [(name: String, slab: ParameterSlab)]
  private let slabs: [ParameterSlab]
  /// Where gradients are: the others are never written and take no memory.
  private let ranges: [Range<Int>]
  package let reducer: GradientReducer

  /// A network that `SGD` trains.
  package convenience init(_ name: String, _ network: Network, _ context: Context) {
    self.init(name, network, SGD(), context)
  }

  package init(_ name: String, _ network: Network, _ optimizer: any Optimizer, _ context: Context) {
    self.name = name
    self.network = network
    state = network.makeState()
    gradients = ParameterSlab(network.parameters)
    moments = type(of: optimizer).slabs.map { ($0, ParameterSlab(network.parameters)) }
    slabs = moments.map(\.slab)
    reducer = GradientReducer(context, gradients)
    ranges = network.parameters.trainedRanges
  }

  /// Bytes of the gradients of what trains.
  package var gradientBytes: Int { ranges.reduce(0) { $0 + $1.count } * MemoryLayout<Float>.stride }

  /// Sets the gradients to zero.
  package func clear() {
    for range in ranges { memset(gradients.data + range.lowerBound, 0, range.count * MemoryLayout<Float>.stride) }
  }

  /// Moves the parameters by their gradients.
  /// - Parameters:
  ///   - optimizer: of the kind that it was made for.
  ///   - step: of the stage, from 0.
  package func update(_ optimizer: any Optimizer, step: Int, rate: Float, _ context: Context) {
    optimizer.update(state.parameters, gradients, state: slabs, step: step, rate: rate, context)
  }

  /// A pass that trains on a batch, or on one of the parts that it is computed in.
  /// - Parameter reduces: false where further passes of this step add to the gradients, as with two views in BN batches
  ///   of their own. The pass that reduces runs backward last.
  package func pass(
    _ context: Context, _ groups: BatchGroups, part: Int = 0, of parts: Int = 1, reduces: Bool = true
  ) -> Pass {
    // Weights with which the parts, one after the other, move the running statistics as the whole batch would:
    // r ← (1 − w)·r + w/A·Σ m_p.
    let w = BatchNorm.runningWeight / Double(parts)
    return Pass(
      context, state, .train, groups, gradients: gradients, reducer: reduces && part == parts - 1 ? reducer : nil,
      runningWeight: w / (1 - Double(parts - 1 - part) * w))
  }
}
