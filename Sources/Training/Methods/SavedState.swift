import Engine

/// A piece of state that a checkpoint holds: the same on every rank, or some rows of it on each.
package struct SavedState {
  package enum Values {
    case floats(UnsafeMutableBufferPointer<Float>)
    case integers(UnsafeMutableBufferPointer<Int64>)
  }

  /// Path in the checkpoint, such as `query/parameters/encoder.conv1.weight`.
  package let name: String
  /// Of the whole.
  package let shape: [Int]
  /// Which rows of the first dimension are here, the other ranks having the rest; nil where every rank has all.
  package let rows: Range<Int>?
  package let values: Values

  /// - floats: all of it, or its `rows`.
  package init(
    _ name: String, shape: [Int], rows: Range<Int>? = nil, floats: UnsafeMutableBufferPointer<Float>
  ) {
    self.name = name
    self.shape = shape
    self.rows = rows
    self.values = .floats(floats)
  }

  package init(_ name: String, integers: UnsafeMutableBufferPointer<Int64>) {
    self.name = name
    self.shape = [integers.count]
    self.rows = nil
    self.values = .integers(integers)
  }

  /// Of what is here.
  package var localShape: [Int] { rows.map { [$0.count] + shape.dropFirst() } ?? shape }

  /// Bytes on disk, those of all ranks.
  package var totalBytes: Int {
    shape.reduce(1, *) * (isIntegers ? MemoryLayout<Int64>.stride : MemoryLayout<Float>.stride)
  }

  private var isIntegers: Bool { if case .integers = values { true } else { false } }

  /// The bytes in memory.
  package var bytes: UnsafeMutableRawBufferPointer {
    switch values {
    case .floats(let buffer): UnsafeMutableRawBufferPointer(buffer)
    case .integers(let buffer): UnsafeMutableRawBufferPointer(buffer)
    }
  }
}

extension ParameterSlab {
  /// Every parameter under `path`, but for some parts.
  package func saved(_ path: String, without parts: [PartName] = []) -> [SavedState] {
    layout.entries.filter { entry in !parts.contains { $0.covers(entry.name) } }.map {
      SavedState(
        "\(path)/\($0.name)", shape: $0.shape,
        floats: UnsafeMutableBufferPointer(start: self[$0.slice], count: $0.slice.count))
    }
  }
}

extension NetworkState {
  /// Parameters and running statistics under `path`, but for some parts.
  package func saved(_ path: String, without parts: [PartName] = []) -> [SavedState] {
    parameters.saved(path + "/parameters", without: parts) + statistics.saved(path + "/statistics", without: parts)
  }
}

extension Trained {
  /// Values and the optimizer's state under its name.
  package var saved: [SavedState] { state.saved(name) + moments.flatMap { $0.slab.saved("\(name)/\($0.name)") } }
}
