import Engine
import Foundation

/// Exchange of an encoder's weights: safetensors with torchvision's names and layouts, without `fc`.
package enum Weights {
  /// A convolution is (K, C, R, S) there and (R, S, C, K) here; everything else is the same.
  static func exported(_ values: UnsafePointer<Float>, _ shape: [Int]) -> (values: [Float], shape: [Int]) {
    let count = shape.reduce(1, *)
    guard shape.count == 4 else { return (Array(UnsafeBufferPointer(start: values, count: count)), shape) }
    let (r, s, c, k) = (shape[0], shape[1], shape[2], shape[3])
    var out = [Float](repeating: 0, count: count)
    for i in 0..<r * s { for j in 0..<c { for f in 0..<k { out[(f * c + j) * r * s + i] = values[(i * c + j) * k + f] } } }
    return (out, [k, c, r, s])
  }

  static func imported(_ values: [Float], _ shape: [Int], into out: UnsafeMutablePointer<Float>) {
    guard shape.count == 4 else {
      for i in values.indices { out[i] = values[i] }
      return
    }
    let (r, s, c, k) = (shape[0], shape[1], shape[2], shape[3])
    for i in 0..<r * s { for j in 0..<c { for f in 0..<k { out[(i * c + j) * k + f] = values[(f * c + j) * r * s + i] } } }
  }

  private static let prefix = "encoder."

  private static func entries(_ state: NetworkState) -> [(entry: ParameterLayout.Entry, slab: ParameterSlab)] {
    [state.parameters, state.statistics].flatMap { slab in
      slab.layout.entries.filter { $0.name.hasPrefix(prefix) }.map { ($0, slab) }
    }
  }

  /// Writes the encoder.
  /// - metadata: what the file says of its origin.
  package static func export(_ state: NetworkState, metadata: [String: String], to path: String) throws {
    var tensors: [(String, [Int], Safetensors.Values)] = []
    for (entry, slab) in entries(state) {
      let (values, shape) = exported(slab[entry.slice], entry.shape)
      let name = String(entry.name.dropFirst(prefix.count))
      tensors.append((name, shape, .floats(values)))
      // torchvision's own files have it, and a strict load asks for it.
      if name.hasSuffix("running_var") {
        tensors.append((name.replacing("running_var", with: "num_batches_tracked"), [], .integers([0])))
      }
    }
    try Safetensors.write(tensors.map { (name: $0.0, shape: $0.1, values: $0.2) }, metadata: metadata, to: path)
  }

  /// Reads an encoder; `fc` and counters are passed over.
  /// - Throws: `RunError` that names a parameter that is missing, too many, or of another shape.
  package static func load(_ path: String, into state: NetworkState) throws {
    let file = try Safetensors.read(path)
    var known: Set<String> = []
    for (entry, slab) in entries(state) {
      let name = String(entry.name.dropFirst(prefix.count))
      known.insert(name)
      guard file.contains(name) else {
        throw RunError("weights \(path) have no `\(name)`: they are of another encoder than the recipe's")
      }
      let expected = entry.shape.count == 4 ? [entry.shape[3], entry.shape[2], entry.shape[0], entry.shape[1]] : entry.shape
      let shape = try file.shape(name)
      guard shape == expected else {
        throw RunError("weights \(path): `\(name)` has shape \(shape), the recipe's encoder has \(expected)")
      }
      imported(try file.floats(name), entry.shape, into: slab[entry.slice])
      slab.version &+= 1
    }
    for name in file.names where !known.contains(name) && !name.hasPrefix("fc.") && !name.hasSuffix("num_batches_tracked") {
      throw RunError("weights \(path) have `\(name)`, which the recipe's encoder has not: they are of another encoder")
    }
  }
}
