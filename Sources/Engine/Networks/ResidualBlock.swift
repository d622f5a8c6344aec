/// A basic block (two 3×3 convolutions) or a bottleneck (1×1, 3×3, 1×1), and its shortcut.
///
/// Backward makes again what is cheap to have: the units' normalised outputs, and the sums of blocks that do not keep
/// theirs. It costs a hundredth of a step's time, and saves a third of its memory.
package struct ResidualBlock {
  let units: [ConvNorm]
  /// Where there is one, the middle unit gives it two streams of the block's width.
  let selection: SelectiveKernels?
  /// Where there is none, the input itself is the residual.
  let shortcut: Shortcut?
  /// Whether the output stays for backward. Every other block of a stage leaves it to be made from its kept input.
  let keepsOutput: Bool

  struct Tape: BitwiseCopyable {
    let first: ConvNorm.Tape, middle: ConvNorm.Tape?, last: ConvNorm.Tape
    let selection: SelectiveKernels.Tape?
    let shortcut: ConvNorm.Tape?
    /// The output, where it is kept.
    let y: Tensor?
  }

  /// Where this block's parameters begin in the slab.
  var firstParameter: Int { units[0].convolution.weight.offset }

  func output(_ x: Tensor) -> (h: Int, w: Int, c: Int) {
    var shape = (h: x.h, w: x.w, c: x.c)
    for unit in units { shape = unit.output(Tensor(x.data, n: 1, h: shape.h, w: shape.w, c: shape.c)) }
    return shape
  }

  func forward(_ x: Tensor, into y: Tensor, _ pass: Pass) -> Tape {
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
      y: keepsOutput ? y : nil)
  }

  /// The output of forward from its tape and input, to the bit.
  func again(_ tape: Tape, x: Tensor, into y: Tensor, _ pass: Pass) {
    precondition(shortcut == nil, "a block that changes the shape keeps its output")
    units[units.count - 1].again(tape.last, residual: x, into: y, pass)
  }

  /// - Parameters:
  ///   - x: the input. y: the output.
  ///   - dx: overwritten. dy itself where the input is the residual.
  func backward(_ dy: Tensor, _ tape: Tape, x: Tensor, y: Tensor, dx: Tensor, _ pass: Pass) {
    // A unit's input is made again, and gives its place to its gradient once the weight's gradient has been had.
    let count = units.count
    var d = units[count - 2].again(tape.middle ?? tape.first, pass)
    if let selection, let choice = tape.selection {
      let streams = d
      let selected = selection.again(streams, choice, pass)
      units[count - 1].backward(dy, tape.last, x: selected, y: y, dx: selected, pass)  // dy is masked now
      selection.backward(selected, choice, x: streams, pass)
    } else {
      units[count - 1].backward(dy, tape.last, x: d, y: y, dx: d, pass)  // dy is masked now
    }
    if let middle = tape.middle {
      let next = units[0].again(tape.first, pass)
      units[1].backward(d, middle, x: next, dx: next, pass)
      d = next
    }
    if let shortcut, let shortcutTape = tape.shortcut { shortcut.backward(dy, shortcutTape, x: x, dx: dx, pass) }
    units[0].backward(d, tape.first, x: x, dx: dx, accumulate: true, pass)
  }
}

/// The projection of a block that changes the shape. ResNet-D takes a mean over 2×2 with the block's stride before a
/// 1×1 without stride, so that no pixel is left out.
struct Shortcut {
  let mean: ShortcutPool?
  let projection: ConvNorm

  func forward(_ x: Tensor, _ pass: Pass) -> (tape: ConvNorm.Tape, y: Tensor) {
    projection.forward(mean?.forward(x, pass) ?? x, relu: false, pass)
  }

  /// dx is overwritten.
  func backward(_ dy: Tensor, _ tape: ConvNorm.Tape, x: Tensor, dx: Tensor, _ pass: Pass) {
    guard let mean else { return projection.backward(dy, tape, x: x, dx: dx, pass) }
    let pooled = mean.forward(x, pass)
    projection.backward(dy, tape, x: pooled, dx: pooled, pass)
    mean.backward(pooled, dx: dx, pass)
  }
}
