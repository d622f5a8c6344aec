/// A basic block (two 3×3 convolutions) or a bottleneck (1×1, 3×3, 1×1), and its shortcut.
///
/// Backward recomputes what is cheap: the units' normalised outputs, and the outputs of blocks that do not keep theirs.
/// That costs a hundredth of a step's time and saves a third of its memory.
package struct ResidualBlock {
  let units: [ConvNorm]
  /// If set, the middle unit has two streams of the block's width, between which this chooses.
  let selection: SelectiveKernels?
  /// If nil, the input itself is the residual.
  let shortcut: Shortcut?
  /// Whether the output is kept for backward. Every other block of a stage recomputes it from its input, which is kept.
  let keepsOutput: Bool

  struct Tape: BitwiseCopyable {
    let first: ConvNorm.Tape, middle: ConvNorm.Tape?, last: ConvNorm.Tape
    let selection: SelectiveKernels.Tape?
    let shortcut: ConvNorm.Tape?
    /// The output, where it is kept.
    let y: Tensor?
  }

  /// The offset of the block's first parameter in the slab.
  var firstParameter: Int { units[0].convolution.weight.offset }

  func output(_ x: Tensor) -> (h: Int, w: Int, c: Int) {
    var shape = (h: x.h, w: x.w, c: x.c)
    for unit in units { shape = unit.output(Tensor(x.data, n: 1, h: shape.h, w: shape.w, c: shape.c)) }
    return shape
  }

  /// - Parameters:
  ///   - y: overwritten.
  ///   - keeps: whether y stays for backward.
  func forward(_ x: Tensor, into y: Tensor, keeps: Bool, _ pass: Pass) -> Tape {
    let mark = pass.arena.mark()
    let residual = shortcut?.forward(x, pass)
    let first = units[0].forward(x, relu: true, pass)
    let middle = units.count == 3 ? units[1].forward(first.y, relu: true, pass) : nil
    let selected = selection?.forward(middle!.y, pass)
    let last = units[units.count - 1].forward(
      selected?.y ?? middle?.y ?? first.y, residual: residual?.y ?? x, relu: true, into: y, pass)
    pass.arena.releaseUpper(to: mark)
    return Tape(
      first: first.tape, middle: middle?.tape, last: last, selection: selected?.tape, shortcut: residual?.tape,
      y: keeps ? y : nil)
  }

  /// Recomputes the output of forward from its tape and input, bit for bit.
  func recompute(_ tape: Tape, x: Tensor, into y: Tensor, _ pass: Pass) {
    precondition(shortcut == nil, "a block that changes the shape keeps its output")
    units[units.count - 1].recompute(tape.last, residual: x, into: y, pass)
  }

  /// - Parameters:
  ///   - x: the input. y: the output.
  ///   - dx: overwritten. dy itself where the input is the residual; nil where nothing below trains.
  func backward(_ dy: Tensor, _ tape: Tape, x: Tensor, y: Tensor, dx: Tensor?, _ pass: Pass) {
    // A unit's input is recomputed; its gradient overwrites it once the weight's gradient has been computed.
    let count = units.count
    var d = units[count - 2].recompute(tape.middle ?? tape.first, pass)
    if let selection, let choice = tape.selection {
      let streams = d
      let selected = selection.recompute(streams, choice, pass)
      units[count - 1].backward(dy, tape.last, x: selected, y: y, dx: selected, pass)  // dy is masked now
      selection.backward(selected, choice, x: streams, pass)
    } else {
      units[count - 1].backward(dy, tape.last, x: d, y: y, dx: d, pass)  // dy is masked now
    }
    if let middle = tape.middle {
      let next = units[0].recompute(tape.first, pass)
      units[1].backward(d, middle, x: next, dx: next, pass)
      d = next
    }
    if let shortcut, let shortcutTape = tape.shortcut { shortcut.backward(dy, shortcutTape, x: x, dx: dx, pass) }
    units[0].backward(d, tape.first, x: x, dx: dx, accumulate: true, pass)
  }
}

/// The projection shortcut of a block that changes the shape. ResNet-D averages over 2×2 with the block's stride before
/// a 1×1 convolution of stride 1, so that no pixel is skipped.
struct Shortcut {
  let mean: ShortcutPool?
  let projection: ConvNorm

  func forward(_ x: Tensor, _ pass: Pass) -> (tape: ConvNorm.Tape, y: Tensor) {
    projection.forward(mean?.forward(x, pass) ?? x, relu: false, pass)
  }

  /// - dx: overwritten; nil where nothing below trains.
  func backward(_ dy: Tensor, _ tape: ConvNorm.Tape, x: Tensor, dx: Tensor?, _ pass: Pass) {
    guard let mean else { return projection.backward(dy, tape, x: x, dx: dx, pass) }
    let pooled = mean.forward(x, pass)
    projection.backward(dy, tape, x: pooled, dx: dx == nil ? nil : pooled, pass)
    if let dx { mean.backward(pooled, dx: dx, pass) }
  }
}
