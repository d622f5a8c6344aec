/// Where a parameter lies in its slab.
package struct Slice: Sendable {
  package let offset: Int, count: Int
}

/// What a parameter is. Optimizers decide by it who takes part in decay and in trust ratios.
package enum ParameterKind: String, Sendable, Codable {
  case weight, bias
  /// γ and β of a normalisation.
  case scale, shift
  /// Running mean and variance; never differentiated.
  case mean, variance
}

/// The table of a slab: every parameter with its name, shape, kind and place.
package struct ParameterLayout: Sendable {
  package struct Entry: Sendable {
    /// torchvision's name, such as `layer1.0.conv1.weight`.
    package let name: String
    /// In our order: (R, S, C, K) for a convolution, (in, out) for a linear layer, (C) for the others.
    package let shape: [Int]
    package let kind: ParameterKind
    package let slice: Slice
    package let initialisation: Initialisation
    /// Left as it is by the optimizer.
    package var frozen = false
    /// Factor on the learning rate.
    package var rateFactor: Float = 1
  }

  package private(set) var entries: [Entry] = []
  /// Floats in the slab, padding included: every parameter starts on a cache line.
  package private(set) var count = 0

  package init() {}

  /// Appends a parameter; names are unique.
  package mutating func add(_ name: String, _ shape: [Int], _ kind: ParameterKind, _ initialisation: Initialisation)
    -> Slice
  {
    precondition(!entries.contains { $0.name == name }, "two parameters are named \(name)")
    let slice = Slice(offset: count, count: shape.reduce(1, *))
    entries.append(Entry(name: name, shape: shape, kind: kind, slice: slice, initialisation: initialisation))
    count += (slice.count + 15) & ~15
    return slice
  }

  /// Says how the optimizer treats the parameters whose names start with `prefix`; nil leaves it as it is.
  package mutating func set(prefix: String, frozen: Bool? = nil, rateFactor: Float? = nil) {
    for i in entries.indices where entries[i].name.hasPrefix(prefix) {
      if let frozen { entries[i].frozen = frozen }
      if let rateFactor { entries[i].rateFactor = rateFactor }
    }
  }

  package func entry(_ name: String) -> Entry? { entries.first { $0.name == name } }

  /// Parameters without padding.
  package var parameterCount: Int { entries.reduce(0) { $0 + $1.slice.count } }

  /// Floats that the parameters whose names start with `prefix` span; they are neighbours.
  package func range(prefix: String) -> Range<Int> {
    let matching = entries.filter { $0.name.hasPrefix(prefix) }
    guard let first = matching.first, let last = matching.last else { return 0..<0 }
    return first.slice.offset..<(last.slice.offset + last.slice.count)
  }
}
