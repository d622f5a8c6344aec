/// A convolution, its normalisation, and the residual sum and ReLU that follow.
package struct ConvNorm {
  package let convolution: Convolution
  package let norm: BatchNorm

  /// What backward needs. The output is not kept: it can be recomputed from z.
  package struct Tape: BitwiseCopyable {
    /// The convolution's output.
    let z: Tensor
    let norm: BatchNorm.Tape
    let relu: Bool
  }

  /// Shape of the output for an input.
  package func output(_ x: Tensor) -> (h: Int, w: Int, c: Int) {
    (convolution.extent(of: x.h), convolution.extent(of: x.w), convolution.filters)
  }

  /// - y: overwritten; if nothing is recorded, it holds the convolution's output in between.
  package func forward(_ x: Tensor, residual: Tensor? = nil, relu: Bool, into y: Tensor, _ pass: Pass) -> Tape {
    if isOnePass(pass) { return infer(x, residual: residual, relu: relu, into: y, pass) }
    let z = pass.mode.records ? pass.arena.tensor(like: y) : y
    convolution.forward(x, into: z, pass)
    pass.context.watch?.look(at: z, pass.state.parameters.layout.name(of: convolution.weight))
    let tape = norm.forward(z, residual: residual, relu: relu, into: y, pass)
    return Tape(z: z, norm: tape, relu: relu)
  }

  /// Whether the convolution can normalise its own output: nothing is kept, and the statistics are known before. A watch
  /// wants to see what comes in between.
  private func isOnePass(_ pass: Pass) -> Bool {
    !pass.mode.records && !norm.usesBatchStatistics(pass) && pass.context.watch == nil
  }

  /// Forward that writes the output once: normalisation, residual and ReLU are applied to what the convolution has in
  /// the cache. The same bits as in two passes.
  private func infer(_ x: Tensor, residual: Tensor?, relu: Bool, into y: Tensor, _ pass: Pass) -> Tape {
    pass.context.scratch { _ in
      let (epilogue, tape) = norm.epilogue(residual: residual, relu: relu, pass)
      convolution.forward(x, into: y, epilogue: epilogue, pass)
      return Tape(z: y, norm: tape, relu: relu)
    }
  }

  /// Forward with the output in temporary memory.
  package func forward(_ x: Tensor, relu: Bool, _ pass: Pass) -> (tape: Tape, y: Tensor) {
    let shape = output(x)
    let y = pass.arena.temporary(n: x.n, h: shape.h, w: shape.w, c: shape.c)
    return (forward(x, relu: relu, into: y, pass), y)
  }

  /// Recomputes the output of forward, bit for bit.
  package func recompute(_ tape: Tape, residual: Tensor? = nil, into y: Tensor, _ pass: Pass) {
    norm.recompute(tape.z, residual: residual, relu: tape.relu, into: y, tape.norm, pass)
  }

  /// Recomputes the output of forward, bit for bit, in temporary memory.
  package func recompute(_ tape: Tape, residual: Tensor? = nil, _ pass: Pass) -> Tensor {
    let y = pass.arena.temporary(like: tape.z)
    recompute(tape, residual: residual, into: y, pass)
    return y
  }

  /// - Parameters:
  ///   - dy: where `y` is given, on return masked by the ReLU: the gradient of the residual.
  ///   - x: the input.
  ///   - y: the output, where a residual was added before the ReLU.
  ///   - dx: overwritten, or added to; nil where the input needs no gradient. May be x itself, or dy where y is given.
  package func backward(
    _ dy: Tensor, _ tape: Tape, x: Tensor, y: Tensor? = nil, dx: Tensor?, accumulate: Bool = false, _ pass: Pass
  ) {
    norm.backward(dy, y: y, relu: tape.relu, x: tape.z, tape.norm, pass)
    convolution.backward(tape.z, x: x, dx: dx, accumulate: accumulate, pass)
  }
}
