import Engine
import Foundation

/// Exchange of weights in safetensors, with torchvision's names and layouts.
package enum Weights {
  /// Where a file's metadata say what the encoder is fed: an `EncoderInput` as JSON.
  package static let inputKey = "apus.input"
  /// Where they have the recipe that the encoder was trained by, and the name of its stage.
  package static let recipeKey = "apus.recipe", stageKey = "apus.stage"

  /// A convolution is (K, C, R, S) there and (R, S, C, K) here, a linear layer (out, in) there and (in, out) here.
  package static func exchangedShape(_ shape: [Int]) -> [Int] {
    switch shape.count {
    case 4: [shape[3], shape[2], shape[0], shape[1]]
    case 2: [shape[1], shape[0]]
    default: shape
    }
  }

  /// Our index of every element in exchanged order.
  private static func forEachIndex(_ shape: [Int], _ body: (_ exchanged: Int, _ ours: Int) -> Void) {
    switch shape.count {
    case 4:
      let taps = shape[0] * shape[1]
      let c = shape[2]
      let k = shape[3]
      for f in 0..<k { for j in 0..<c { for i in 0..<taps { body((f * c + j) * taps + i, (i * c + j) * k + f) } } }
    case 2:
      for o in 0..<shape[1] { for i in 0..<shape[0] { body(o * shape[0] + i, i * shape[1] + o) } }
    default:
      for i in 0..<shape.reduce(1, *) { body(i, i) }
    }
  }

  package static func exported(_ values: UnsafePointer<Float>, _ shape: [Int]) -> [Float] {
    var out = [Float](repeating: 0, count: shape.reduce(1, *))
    forEachIndex(shape) { out[$0] = values[$1] }
    return out
  }

  package static func imported(_ values: [Float], _ shape: [Int], into out: UnsafeMutablePointer<Float>) {
    forEachIndex(shape) { out[$1] = values[$0] }
  }

  private static func encoder(_ state: NetworkState) -> [(entry: ParameterLayout.Entry, slab: ParameterSlab)] {
    [state.parameters, state.statistics].flatMap { slab in
      slab.layout.entries(of: .encoder).map { ($0, slab) }
    }
  }

  /// Writes the encoder, reads the file back, and compares every bit.
  /// - Parameter metadata: what the file says of its origin.
  package static func export(_ state: NetworkState, metadata: [String: String], to path: String) throws {
    var tensors: [(name: String, shape: [Int], values: Safetensors.Values)] = []
    for (entry, slab) in encoder(state) {
      let name = PartName.encoder.localName(entry.name)
      tensors.append((name, exchangedShape(entry.shape), .floats(exported(slab[entry.slice], entry.shape))))
      // torchvision's own files have it, and a strict load asks for it.
      if name.hasSuffix("running_var") {
        tensors.append((name.replacing("running_var", with: "num_batches_tracked"), [], .integers([0])))
      }
    }
    try Safetensors.write(tensors, metadata: metadata, to: path)
    let copy = NetworkState(state.parameters.layout, state.statistics.layout)
    try load(path, into: copy)
    for (entry, slab) in encoder(copy) {
      let original = (slab === copy.parameters ? state.parameters : state.statistics)[entry.slice]
      guard memcmp(original, slab[entry.slice], entry.slice.count * 4) == 0 else {
        throw RunError("\(path) does not give \(entry.name) back as it was written: check the disk, and export again")
      }
    }
  }

  /// Reads an encoder; `fc` and counters are passed over.
  /// - Throws: `RunError` that names a parameter that is missing, too many, or of another shape.
  package static func load(_ path: String, into state: NetworkState) throws {
    let file = try Safetensors.read(path)
    var known: Set<String> = []
    for (entry, slab) in encoder(state) {
      let name = PartName.encoder.localName(entry.name)
      known.insert(name)
      try read(name, of: file, path, entry, into: slab)
    }
    for name in file.names
    where !known.contains(name) && !name.hasPrefix("fc.") && !name.hasSuffix("num_batches_tracked") {
      throw RunError("weights \(path) have `\(name)`, which the recipe's encoder has not: they are of another encoder")
    }
  }

  /// Fills encoder and head from a file whose names begin with `encoder.` and `head.`: a fixture or an exchange with a
  /// peer. Running statistics that the file has not keep their values.
  /// - Parameter prefix: stands before the names.
  package static func fill(
    _ state: NetworkState, from file: Safetensors, prefix: String = "", _ path: String
  ) throws {
    for slab in [state.parameters, state.statistics] {
      for entry in slab.layout.entries where slab === state.parameters || file.contains(prefix + entry.name) {
        try read(prefix + entry.name, of: file, path, entry, into: slab)
      }
    }
  }

  private static func read(
    _ name: String, of file: Safetensors, _ path: String, _ entry: ParameterLayout.Entry, into slab: ParameterSlab
  ) throws {
    guard file.contains(name) else {
      throw RunError("weights \(path) have no `\(name)`: they are of another encoder than the recipe's")
    }
    let shape = try file.shape(name)
    let expected = exchangedShape(entry.shape)
    guard shape == expected else {
      throw RunError("weights \(path): `\(name)` has shape \(shape), the recipe's encoder has \(expected)")
    }
    let values = try file.floats(name)
    if let bad = values.firstIndex(where: { !$0.isFinite }) {
      throw RunError(
        "weights \(path): `\(name)` holds \(values[bad]) at element \(bad), expected finite numbers: the run that "
          + "wrote them had diverged, or the file was converted wrongly; take an earlier checkpoint of it")
    }
    imported(values, entry.shape, into: slab[entry.slice])
  }
}
