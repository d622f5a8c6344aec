import Engine

/// A piece of state that a checkpoint holds; every rank has the same.
package struct SavedState {
  package enum Values {
    case floats(UnsafeMutableBufferPointer<Float>)
    case integers(UnsafeMutableBufferPointer<Int64>)
  }

  /// Path in the checkpoint, such as `query/parameters/encoder.conv1.weight`.
  package let name: String
  package let shape: [Int]
  package let values: Values

  package init(_ name: String, shape: [Int], floats: UnsafeMutableBufferPointer<Float>) {
    (self.name, self.shape, self.values) = (name, shape, .floats(floats))
  }

  package init(_ name: String, integers: UnsafeMutableBufferPointer<Int64>) {
    (self.name, self.shape, self.values) = (name, [integers.count], .integers(integers))
  }

  /// The bytes in memory.
  package var bytes: UnsafeMutableRawBufferPointer {
    switch values {
    case .floats(let buffer): UnsafeMutableRawBufferPointer(buffer)
    case .integers(let buffer): UnsafeMutableRawBufferPointer(buffer)
    }
  }
}

extension ParameterSlab {
  /// Every parameter under `path`.
  package func saved(_ path: String) -> [SavedState] {
    layout.entries.map {
      SavedState(
        "\(path)/\($0.name)", shape: $0.shape,
        floats: UnsafeMutableBufferPointer(start: self[$0.slice], count: $0.slice.count))
    }
  }
}

extension NetworkState {
  /// Parameters and running statistics under `path`.
  package func saved(_ path: String) -> [SavedState] {
    parameters.saved(path + "/parameters") + statistics.saved(path + "/statistics")
  }
}

extension Trained {
  /// Values and momentum under its name.
  package var saved: [SavedState] { state.saved(name) + momentum.saved(name + "/momentum") }
}
