/// A convolution, its normalisation, and the residual sum and ReLU that follow.
package struct ConvNorm {
  package let convolution: Convolution
  package let norm: BatchNorm

  package struct Tape: BitwiseCopyable {
    /// The input, the convolution's output, and what comes out.
    let x: Tensor, z: Tensor, y: Tensor
    let norm: BatchNorm.Tape
    let relu: Bool
  }

  /// Shape of the output for an input.
  package func output(_ x: Tensor) -> (h: Int, w: Int, c: Int) {
    (convolution.extent(of: x.h), convolution.extent(of: x.w), convolution.filters)
  }

  /// - y: overwritten; where nothing is recorded, it holds the convolution's output in between.
  package func forward(_ x: Tensor, residual: Tensor? = nil, relu: Bool, into y: Tensor, _ pass: Pass) -> Tape {
    let z = pass.mode.records ? pass.arena.tensor(like: y) : y
    pass.context.part(.convolution) { convolution.forward(x, into: z, pass) }
    pass.context.profile?.add(operations: operations(z), to: .convolution)
    pass.context.watch?.look(at: z, pass.state.parameters.layout.name(of: convolution.weight))
    let tape = pass.context.part(.normalisation) { norm.forward(z, residual: residual, relu: relu, into: y, pass) }
    return Tape(x: x, z: z, y: y, norm: tape, relu: relu)
  }

  /// The output in memory of its own.
  package func forward(_ x: Tensor, residual: Tensor? = nil, relu: Bool, _ pass: Pass) -> Tape {
    let shape = output(x)
    return forward(x, residual: residual, relu: relu, into: pass.arena.tensor(n: x.n, h: shape.h, w: shape.w, c: shape.c), pass)
  }

  /// - Parameters:
  ///   - dy: on return masked by the ReLU: the gradient of the residual.
  ///   - dx: overwritten, or added to; nil where the input needs no gradient.
  package func backward(_ dy: Tensor, _ tape: Tape, dx: Tensor?, accumulate: Bool = false, _ pass: Pass) {
    pass.context.part(.normalisation) {
      norm.backward(dy, y: tape.relu ? tape.y : nil, x: tape.z, tape.norm, pass)
    }
    pass.context.part(.convolution) {
      convolution.backward(tape.z, x: tape.x, dx: dx, accumulate: accumulate, pass)
    }
    pass.context.profile?.add(operations: operations(tape.z) * (dx == nil ? 1 : 2), to: .convolution)
  }

  /// Of the direct convolution: a multiplication and an addition for each tap.
  private func operations(_ z: Tensor) -> Double {
    2 * Double(z.count) * Double(convolution.kernel * convolution.kernel * convolution.inputs)
  }
}

extension ParameterLayout {
  /// The name of the parameter at `slice`.
  package func name(of slice: Slice) -> String {
    entries.first { $0.slice.offset == slice.offset }?.name ?? "a parameter at \(slice.offset)"
  }
}
