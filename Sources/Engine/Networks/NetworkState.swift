/// The values that a network runs with: parameters, and the running statistics of its normalisations. The same network
/// runs with a query's or a key's state.
package final class NetworkState {
  package let parameters: ParameterSlab
  package let statistics: ParameterSlab

  package init(_ parameters: ParameterLayout, _ statistics: ParameterLayout) {
    self.parameters = ParameterSlab(parameters)
    self.statistics = ParameterSlab(statistics)
  }

  /// Bytes of both.
  package var bytes: Int { (parameters.count + statistics.count) * MemoryLayout<Float>.stride }

  /// Every parameter as its layout says, keyed by (seed, name).
  package func initialise(seed: UInt64) {
    for slab in [parameters, statistics] {
      for entry in slab.layout.entries {
        entry.initialisation.fill(
          UnsafeMutableBufferPointer(start: slab[entry.slice], count: entry.slice.count), seed: seed, name: entry.name)
      }
    }
  }

  /// Copies the state of the same network.
  package func copy(_ other: NetworkState) {
    parameters.copy(other.parameters)
    statistics.copy(other.statistics)
  }

  /// Copies parts from the state of another network: `[.encoder]`, or the head's first two layers,
  /// `PartName.head.layers(0..<2)`. Everything is checked before anything is copied.
  /// - Throws: `PartError` where this network has no such part, or where a part's parameters differ from the other's.
  package func copy(_ parts: [PartName], from other: NetworkState) throws(PartError) {
    for part in parts { try check(part, against: other) }
    for (to, from) in slabs(with: other) {
      for entry in parts.flatMap({ to.layout.entries(of: $0) }) {
        to[entry.slice].update(from: from[from.layout.entry(entry.name)!.slice], count: entry.slice.count)
      }
    }
  }

  private func slabs(with other: NetworkState) -> [(to: ParameterSlab, from: ParameterSlab)] {
    [(parameters, other.parameters), (statistics, other.statistics)]
  }

  private func check(_ part: PartName, against other: NetworkState) throws(PartError) {
    guard !parameters.layout.entries(of: part).isEmpty else {
      let known = parameters.layout.parts.map(\.rawValue).joined(separator: ", ")
      throw PartError("part `\(part)`: the network has no such part; it has \(known)")
    }
    for (to, from) in slabs(with: other) {
      for entry in to.layout.entries(of: part) {
        guard let source = from.layout.entry(entry.name) else {
          throw PartError("part `\(part)`: `\(entry.name)` of shape \(entry.shape) is missing where it is copied from")
        }
        guard source.shape == entry.shape else {
          throw PartError(
            "part `\(part)`: `\(entry.name)` has shape \(entry.shape), and \(source.shape) where it is copied from")
        }
      }
      for entry in from.layout.entries(of: part) where to.layout.entry(entry.name) == nil {
        throw PartError(
          "part `\(part)`: it is copied from one with `\(entry.name)` of shape \(entry.shape), which it lacks")
      }
    }
  }
}

/// A part of a network that cannot be taken from another one.
package struct PartError: Error, CustomStringConvertible {
  package let description: String
  init(_ description: String) { self.description = description }
}
