/// A head: layers on features, or on the pixels of a feature map. A layer is linear or a 3×3 convolution, with or
/// without bias, normalisation and ReLU; on a map a linear layer is a 1×1 convolution.
package struct Head {
  package enum Normalisation: String, Codable, Sendable { case none, scaleAndShift, scale }

  /// One layer, as a method writes it down.
  package struct Layer: Sendable, Equatable {
    package var outputs: Int
    package var bias: Bool
    package var normalisation: Normalisation
    package var relu: Bool
    package var weight: Initialisation?
    /// 1 for a linear layer, 3 for a 3×3 convolution of a map, which has no bias.
    package var kernel: Int

    /// - weight: torch's default where nil: uniform in ± 1/√fan-in.
    package init(
      _ outputs: Int, bias: Bool, _ normalisation: Normalisation = .none, relu: Bool = false,
      weight: Initialisation? = nil, kernel: Int = 1
    ) {
      precondition(kernel == 1 || kernel == 3, "a head's kernel is \(kernel); it must be 1 or 3")
      precondition(kernel == 1 || !bias, "a 3×3 layer of a head has no bias: give it a normalisation")
      self.outputs = outputs
      self.bias = bias
      self.normalisation = normalisation
      self.relu = relu
      self.weight = weight
      self.kernel = kernel
    }
  }

  /// What a layer multiplies by.
  private enum Product {
    case linear(Linear)
    case convolution(Convolution)

    var weight: Slice {
      switch self {
      case .linear(let layer): layer.weight
      case .convolution(let layer): layer.weight
      }
    }

    var trains: Bool {
      switch self {
      case .linear(let layer): layer.trains
      case .convolution(let layer): layer.weight.trains
      }
    }
  }

  private struct Unit {
    let product: Product
    let outputs: Int
    let norm: BatchNorm?
    let relu: Bool

    var trains: Bool { product.trains || norm?.trains == true }
  }

  /// What backward needs.
  package struct Tape: BitwiseCopyable {
    fileprivate struct Unit: BitwiseCopyable {
      let x: Tensor, z: Tensor, y: Tensor
      let norm: BatchNorm.Tape?
    }
    fileprivate let units: UnsafeMutableBufferPointer<Unit>
    /// What comes out, (N, D), or (N, H, W, D) of a map.
    package let output: Tensor
    /// What comes out of so many layers, at least one.
    package func output(layers: Int) -> Tensor { units[layers - 1].y }
    /// Layers that were gone through.
    package var layers: Int { units.count }
  }

  package let name: PartName
  private let units: [Unit]
  package var count: Int { units.count }
  /// Where its parameters begin in the slab.
  var firstParameter: Int? { units.first?.product.weight.offset }
  /// D
  package var outputs: Int? { units.last?.outputs }

  /// - Parameter numbered: whether a layer's number is in its parameters' names, as in `head.0.weight`. A head of one
  ///   layer can go without: `classifier.weight`.
  package init(
    _ name: PartName, _ layers: [Layer], inputs: Int, numbered: Bool = true, _ parameters: inout ParameterLayout,
    _ statistics: inout ParameterLayout
  ) {
    precondition(numbered || layers.count == 1, "\(name) has \(layers.count) layers without numbers")
    self.name = name
    var units: [Unit] = []
    var inputs = inputs
    for (i, layer) in layers.enumerated() {
      let path = numbered ? "\(name).\(i)" : name.rawValue
      let product = Self.product(layer, path, inputs: inputs, &parameters)
      let norm =
        layer.normalisation == .none
        ? nil
        : BatchNorm(
          &parameters, &statistics, path + ".bn", channels: layer.outputs,
          shift: layer.normalisation == .scaleAndShift)
      units.append(Unit(product: product, outputs: layer.outputs, norm: norm, relu: layer.relu))
      inputs = layer.outputs
    }
    self.units = units
  }

  private static func product(
    _ layer: Layer, _ path: String, inputs: Int, _ parameters: inout ParameterLayout
  ) -> Product {
    let fanIn = layer.kernel * layer.kernel * inputs
    let weight = layer.weight ?? .torchLinear(fanIn: fanIn)
    if layer.kernel > 1 {
      return .convolution(
        Convolution(
          &parameters, path, inputs: inputs, filters: layer.outputs, kernel: layer.kernel, stride: 1,
          padding: layer.kernel / 2, weight))
    }
    return .linear(
      Linear(
        &parameters, path, inputs: inputs, outputs: layer.outputs, bias: layer.bias, weight: weight,
        biasInitialisation: layer.weight == nil ? .torchLinear(fanIn: fanIn) : .constant(0)))
  }

  /// The linear layer at a place, for methods that use its weight by themselves.
  package func linear(_ layer: Int) -> Linear {
    guard case .linear(let linear) = units[layer].product else {
      preconditionFailure("layer \(layer) of \(name) is a convolution")
    }
    return linear
  }

  /// Whether any parameter of its first layers trains.
  func trains(layers: Int) -> Bool { units.prefix(layers).contains { $0.trains } }

  // MARK: Forward

  /// - Parameters:
  ///   - x: (N, C) features, or (N, H, W, C), a map.
  ///   - layers: how many layers to go through; all if nil.
  package func forward(_ x: Tensor, layers: Int? = nil, _ pass: Pass) -> Tape {
    let count = layers ?? units.count
    let tapes = pass.arena.array(of: Tape.Unit.self, count: max(1, count))
    var x = x
    for i in 0..<count {
      tapes[i] = forward(units[i], x, pass)
      x = tapes[i].y
    }
    return Tape(units: UnsafeMutableBufferPointer(rebasing: tapes[..<count]), output: x)
  }

  private func forward(_ unit: Unit, _ x: Tensor, _ pass: Pass) -> Tape.Unit {
    let z = pass.arena.tensor(n: x.n, h: x.h, w: x.w, c: unit.outputs)
    switch unit.product {
    case .linear(let layer): layer.forward(x, into: z, pass)
    case .convolution(let layer): layer.forward(x, into: z, pass)
    }
    guard let norm = unit.norm else {
      if unit.relu { ReLU.forward(z, pass.context) }
      return Tape.Unit(x: x, z: z, y: z, norm: nil)
    }
    let y = pass.arena.tensor(like: z)
    let tape = norm.forward(z, relu: unit.relu, into: y, pass)
    return Tape.Unit(x: x, z: z, y: y, norm: tape)
  }

  // MARK: Backward

  /// Adds to the gradients of all parameters that train.
  /// - Parameters:
  ///   - dy: gradient of the output, overwritten on the way.
  ///   - dx: gradient of the input, overwritten; nil where nothing below the head trains.
  package func backward(_ dy: Tensor, _ tape: Tape, dx: Tensor?, _ pass: Pass) {
    backward(from: tape.layers, tape, dx: dx, pass) { $0 == tape.layers ? dy : nil }
  }

  /// - Parameters:
  ///   - top: how many layers the last output with a gradient comes out of, at least one.
  ///   - gradient: of what comes out of so many layers, where there is one; overwritten on the way.
  func backward(from top: Int, _ tape: Tape, dx: Tensor?, _ pass: Pass, gradient: (_ layers: Int) -> Tensor?) {
    // Without dx the lowest layer that trains is the last to be gone through, and its input needs no gradient.
    let lowest = dx != nil ? 0 : units.firstIndex { $0.trains } ?? top
    var dy = gradient(top)!
    for i in (min(lowest, top)..<top).reversed() {
      guard i > lowest else { return backward(units[i], dy, tape.units[i], dx: dx, pass) }
      let input = pass.arena.tensor(like: tape.units[i].x)
      backward(units[i], dy, tape.units[i], dx: input, pass)
      if let further = gradient(i) { pass.context.add(further, to: input) }
      dy = input
    }
  }

  private func backward(_ unit: Unit, _ dy: Tensor, _ tape: Tape.Unit, dx: Tensor?, _ pass: Pass) {
    var dz = dy
    if let norm = unit.norm {
      norm.backward(dy, relu: unit.relu, x: tape.z, tape.norm!, pass)
      dz = tape.z
    } else if unit.relu {
      ReLU.backward(dy, y: tape.y, pass.context)
    }
    switch unit.product {
    case .linear(let layer): layer.backward(dz, x: tape.x, dx: dx, pass)
    case .convolution(let layer): layer.backward(dz, x: tape.x, dx: dx, accumulate: false, pass)
    }
  }
}

extension Context {
  /// to ← to + from, element by element.
  func add(_ from: Tensor, to: Tensor) {
    precondition(from.hasShape(of: to), "a gradient of shape \(from.shape) added to one of \(to.shape)")
    elementwise(to.count) { range in
      (to.data + range.lowerBound).add(from.data + range.lowerBound, count: range.count)
    }
  }
}
