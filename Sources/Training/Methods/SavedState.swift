import Engine

/// An array that a checkpoint holds: either replicated on every rank, or with its rows distributed over the ranks.
package struct SavedState {
  /// The elements in memory, by type.
  package enum Values {
    case floats(UnsafeMutableBufferPointer<Float>)
    case integers(UnsafeMutableBufferPointer<Int64>)
  }

  /// Path in the checkpoint, such as `query/parameters/encoder.conv1.weight`.
  package let name: String
  /// Shape of the whole array.
  package let shape: [Int]
  /// Rows of the first dimension on this rank; nil if every rank has all.
  package let rows: Range<Int>?
  /// The elements on this rank.
  package let values: Values

  /// An array of floats.
  /// - floats: the whole array, or its `rows`.
  package init(
    _ name: String, shape: [Int], rows: Range<Int>? = nil, floats: UnsafeMutableBufferPointer<Float>
  ) {
    self.name = name
    self.shape = shape
    self.rows = rows
    self.values = .floats(floats)
  }

  /// A list of integers, the same on every rank.
  package init(_ name: String, integers: UnsafeMutableBufferPointer<Int64>) {
    self.name = name
    self.shape = [integers.count]
    self.rows = nil
    self.values = .integers(integers)
  }

  /// Shape of this rank's part.
  package var localShape: [Int] { rows.map { [$0.count] + shape.dropFirst() } ?? shape }

  /// Bytes of the whole array on disk.
  package var totalBytes: Int {
    shape.reduce(1, *) * (isIntegers ? MemoryLayout<Int64>.stride : MemoryLayout<Float>.stride)
  }

  private var isIntegers: Bool { if case .integers = values { true } else { false } }

  /// The bytes of this rank's part.
  package var bytes: UnsafeMutableRawBufferPointer {
    switch values {
    case .floats(let buffer): UnsafeMutableRawBufferPointer(buffer)
    case .integers(let buffer): UnsafeMutableRawBufferPointer(buffer)
    }
  }
}

extension ParameterSlab {
  /// All parameters, with names under `path`, except some parts.
  package func saved(_ path: String, without parts: [PartName] = []) -> [SavedState] {
    layout.entries.filter { entry in !parts.contains { $0.covers(entry.name) } }.map {
      SavedState(
        "\(path)/\($0.name)", shape: $0.shape,
        floats: UnsafeMutableBufferPointer(start: self[$0.slice], count: $0.slice.count))
    }
  }
}

extension NetworkState {
  /// Parameters and running statistics, with names under `path`, except some parts.
  package func saved(_ path: String, without parts: [PartName] = []) -> [SavedState] {
    parameters.saved(path + "/parameters", without: parts) + statistics.saved(path + "/statistics", without: parts)
  }
}

extension Trained {
  /// Its state and the optimizer's, with names under its own.
  package var saved: [SavedState] { state.saved(name) + moments.flatMap { $0.slab.saved("\(name)/\($0.name)") } }
}
