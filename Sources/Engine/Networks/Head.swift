/// A projection head: linear layers, each with or without bias, normalisation and ReLU.
package struct Head {
  package enum Normalisation: String, Codable, Sendable { case none, scaleAndShift, scale }

  /// One layer, as a method writes it down.
  package struct Layer: Sendable, Equatable {
    package var outputs: Int
    package var bias: Bool
    package var normalisation: Normalisation
    package var relu: Bool
    package var weight: Initialisation?

    /// - weight: torch's default where nil.
    package init(
      _ outputs: Int, bias: Bool, _ normalisation: Normalisation = .none, relu: Bool = false,
      weight: Initialisation? = nil
    ) {
      self.outputs = outputs
      self.bias = bias
      self.normalisation = normalisation
      self.relu = relu
      self.weight = weight
    }
  }

  private struct Unit {
    let linear: Linear
    let norm: BatchNorm?
    let relu: Bool
  }

  package struct Tape {
    fileprivate struct Unit: BitwiseCopyable {
      let x: Tensor, z: Tensor, y: Tensor
      let norm: BatchNorm.Tape?
    }
    fileprivate let units: UnsafeMutableBufferPointer<Unit>
    /// What comes out, (N, D).
    package let output: Tensor
    /// What comes out of so many layers.
    package func output(layers: Int) -> Tensor { units[layers - 1].y }
    /// Layers that were gone through.
    package var layers: Int { units.count }
  }

  private let units: [Unit]
  package var count: Int { units.count }
  /// Where its parameters begin in the slab.
  var firstParameter: Int? { units.first?.linear.weight.offset }

  package init(
    _ layers: [Layer], inputs: Int, _ parameters: inout ParameterLayout, _ statistics: inout ParameterLayout,
    prefix: String = "head."
  ) {
    var units: [Unit] = []
    var inputs = inputs
    for (i, layer) in layers.enumerated() {
      let linear = Linear(
        &parameters, "\(prefix)\(i)", inputs: inputs, outputs: layer.outputs, bias: layer.bias,
        weight: layer.weight ?? .torchLinear(fanIn: inputs),
        biasInitialisation: layer.weight == nil ? .torchLinear(fanIn: inputs) : .constant(0))
      let norm =
        layer.normalisation == .none
        ? nil
        : BatchNorm(
          &parameters, &statistics, "\(prefix)\(i).bn", channels: layer.outputs,
          shift: layer.normalisation == .scaleAndShift)
      units.append(Unit(linear: linear, norm: norm, relu: layer.relu))
      inputs = layer.outputs
    }
    self.units = units
  }

  /// - Parameters:
  ///   - x: (N, in) features.
  ///   - layers: how many layers to go through; all if nil.
  package func forward(_ x: Tensor, layers: Int? = nil, _ pass: Pass) -> Tape {
    let units = self.units.prefix(layers ?? self.units.count)
    let tapes = pass.arena.array(of: Tape.Unit.self, count: max(1, units.count))
    var x = x
    for (i, unit) in units.enumerated() {
      let z = pass.arena.tensor(n: x.n, c: unit.linear.outputs)
      unit.linear.forward(x, into: z, pass)
      var y = z
      var norm: BatchNorm.Tape?
      if let layer = unit.norm {
        y = pass.arena.tensor(like: z)
        norm = layer.forward(z, relu: unit.relu, into: y, pass)
      } else if unit.relu {
        ReLU.forward(z, pass.context)
      }
      tapes[i] = Tape.Unit(x: x, z: z, y: y, norm: norm)
      x = y
    }
    return Tape(units: UnsafeMutableBufferPointer(rebasing: tapes[..<units.count]), output: x)
  }

  /// Adds to the gradients of all parameters.
  /// - Parameters:
  ///   - dy: (N, out), overwritten on the way.
  ///   - dx: (N, in), overwritten.
  package func backward(_ dy: Tensor, _ tape: Tape, dx: Tensor, _ pass: Pass) {
    var dy = dy
    for i in tape.units.indices.reversed() {
      let unit = units[i]
      let tapeUnit = tape.units[i]
      var d = dy
      if let norm = unit.norm {
        norm.backward(dy, relu: unit.relu, x: tapeUnit.z, tapeUnit.norm!, pass)
        d = tapeUnit.z
      } else if unit.relu {
        ReLU.backward(dy, y: tapeUnit.y, pass.context)
      }
      let next = i == 0 ? dx : pass.arena.tensor(like: tapeUnit.x)
      unit.linear.backward(d, x: tapeUnit.x, dx: next, pass)
      dy = next
    }
  }
}
