/// The layers before the residual blocks: one unit, or ResNet-D's three, and for large images a 3×3 max-pool, stride 2.
///
/// The max-pool pads as torchvision's does: its first window begins at pixel -1. TensorFlow's SAME begins at pixel 0 if
/// the size is even. Trained from scratch they are equally good, but weights that were trained with the other one see
/// the maps shifted by a pixel: keep that in mind when SimCLR's or BYOL's published weights are imported.
struct ResNetStem {
  let units: [ConvNorm]
  let pools: Bool

  struct Tape {
    let units: UnsafeMutableBufferPointer<ConvNorm.Tape>
    let winner: UnsafeMutablePointer<UInt8>?
  }

  func output(_ x: Tensor) -> (h: Int, w: Int, c: Int) {
    var shape = (h: x.h, w: x.w, c: x.c)
    for unit in units { shape = unit.output(Tensor(x.data, n: 1, h: shape.h, w: shape.w, c: shape.c)) }
    return pools ? (MaxPool.extent(of: shape.h), MaxPool.extent(of: shape.w), shape.c) : shape
  }

  /// - x: the images. y: overwritten.
  func forward(_ x: Tensor, into y: Tensor, _ pass: Pass) -> Tape {
    let arena = pass.arena
    let tapes = arena.array(of: ConvNorm.Tape.self, count: units.count)
    let winner = pools && pass.mode.records ? arena.array(of: UInt8.self, count: y.count).baseAddress : nil
    let mark = arena.mark()
    var z = x
    for (i, unit) in units.enumerated() {
      if i == units.count - 1 && !pools {
        tapes[i] = unit.forward(z, relu: true, into: y, pass)
      } else {
        (tapes[i], z) = unit.forward(z, relu: true, pass)
      }
    }
    if pools {
      pass.context.part(.pooling, bytes: z.bytes + y.bytes) {
        MaxPool.forward(z, into: y, winner: winner, pass.context)
      }
    }
    arena.releaseUpper(to: mark)
    return Tape(units: tapes, winner: winner)
  }

  /// - dy: gradient of the output; overwritten on the way. x: the images, whose gradient is not computed.
  func backward(_ dy: Tensor, _ tape: Tape, x: Tensor, _ pass: Pass) {
    let mark = pass.arena.mark()
    var d = dy
    if let winner = tape.winner {
      d = pass.arena.temporary(like: tape.units[units.count - 1].z)
      pass.context.part(.pooling, bytes: dy.bytes + d.bytes) {
        MaxPool.backward(dy, winner: winner, dx: d, pass.context)
      }
    }
    for i in units.indices.reversed() {
      // A unit's input is recomputed; its gradient then overwrites it.
      let input = i == 0 ? x : units[i - 1].recompute(tape.units[i - 1], pass)
      units[i].backward(d, tape.units[i], x: input, dx: i == 0 ? nil : input, pass)
      d = input
    }
    pass.arena.releaseUpper(to: mark)
  }
}
