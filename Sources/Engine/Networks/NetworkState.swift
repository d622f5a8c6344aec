
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
