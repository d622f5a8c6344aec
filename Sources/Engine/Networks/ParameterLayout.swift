/// Where a parameter lies in its slab.
package struct Slice: Sendable {
  package let offset: Int, count: Int
  /// Whether training changes it. Of a parameter that does not train, no gradient is computed, sent or applied.
  package let trains: Bool
}

/// What a parameter is. Optimizers decide by it who takes part in decay and in trust ratios.
package enum ParameterKind: String, Sendable, Codable, CaseIterable {
  case weight, bias
  /// γ and β of a normalisation.
  case scale, shift
  /// Running mean and variance; never differentiated.
  case mean, variance
}

/// The table of a slab: every parameter with its name, shape, kind and place.
package struct ParameterLayout: Sendable {
  package struct Entry: Sendable {
    /// The name of its part, then torchvision's, such as `encoder.layer1.0.conv1.weight`.
    package let name: String
    /// In our order: (R, S, C, K) for a convolution, (in, out) for a linear layer, (C) for the others.
    package let shape: [Int]
    package let kind: ParameterKind
    package let slice: Slice
    package let initialisation: Initialisation
    /// Factor on the learning rate.
    package let rateFactor: Float
    /// Factor on the weight decay.
    package let decayFactor: Float
    /// Whether LARS's trust ratio scales its rate.
    package let adapts: Bool

    package var trains: Bool { slice.trains }
  }

  /// What trains, and how fast.
  package let rules: [Rule]
  package private(set) var entries: [Entry] = []
  /// Floats in the slab, padding included: every parameter starts on a cache line.
  package private(set) var count = 0

  package init(rules: [Rule] = []) { self.rules = rules }

  /// Appends a parameter; names are unique.
  package mutating func add(_ name: String, _ shape: [Int], _ kind: ParameterKind, _ initialisation: Initialisation)
    -> Slice
  {
    precondition(entry(name) == nil, "two parameters are named \(name)")
    let rules = self.rules.reversed().filter { $0.covers(name, kind) }
    let slice = Slice(
      offset: count, count: shape.reduce(1, *), trains: rules.lazy.compactMap(\.trains).first ?? true)
    entries.append(
      Entry(
        name: name, shape: shape, kind: kind, slice: slice, initialisation: initialisation,
        rateFactor: rules.lazy.compactMap(\.rate).first ?? 1, decayFactor: rules.lazy.compactMap(\.decay).first ?? 1,
        adapts: rules.lazy.compactMap(\.adapts).first ?? true))
    count += (slice.count + 15) & ~15
    return slice
  }

  package func entry(_ name: String) -> Entry? { entries.first { $0.name == name } }

  /// The parameters of a part.
  package func entries(of part: PartName) -> [Entry] { entries.filter { part.covers($0.name) } }

  /// The name of the parameter at `slice`.
  package func name(of slice: Slice) -> String {
    entries.first { $0.slice.offset == slice.offset }?.name ?? "a parameter at \(slice.offset)"
  }

  /// The parts that there are, by the first components of the names.
  package var parts: [PartName] {
    entries.map { PartName(of: $0.name) }.reduce(into: []) { parts, part in
      if parts.last != part { parts.append(part) }
    }
  }

  /// Parameters without padding.
  package var parameterCount: Int { entries.reduce(0) { $0 + $1.slice.count } }

  /// Parameters of a part, without padding.
  package func parameterCount(of part: PartName) -> Int { entries(of: part).reduce(0) { $0 + $1.slice.count } }

  /// Where the slab trains: ranges of floats, padding included, that do not touch one another.
  package var trainedRanges: [Range<Int>] {
    var ranges: [Range<Int>] = []
    for (i, entry) in entries.enumerated() where entry.trains {
      let start = entry.slice.offset
      let end = i + 1 < entries.count ? entries[i + 1].slice.offset : count
      if let last = ranges.last, last.upperBound == start {
        ranges[ranges.count - 1] = last.lowerBound..<end
      } else {
        ranges.append(start..<end)
      }
    }
    return ranges
  }
}
