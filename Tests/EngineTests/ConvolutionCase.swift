import Engine
import Randomness

/// One convolution with random input, weight and cotangent, for the engine and for the reference.
final class ConvolutionCase {
  let reference: ReferenceConvolution
  let context: Context
  let state: NetworkState
  let gradients: ParameterSlab
  let convolution: Convolution
  let x: Tensor, dy: Tensor
  let weight: [Float]

  var description: String { "\(reference) with \(context.team.count) threads, \(context.convolution)" }

  init(_ reference: ReferenceConvolution, threads: Int = 1, _ algorithm: ConvolutionAlgorithm = .exact) {
    self.reference = reference
    context = Context(threads: threads, arena: Arena(reserving: 1 << 32))
    context.convolution = algorithm
    var layout = ParameterLayout()
    convolution = Convolution(
      &layout, "conv", inputs: reference.c, filters: reference.k, kernel: reference.kernel, stride: reference.stride,
      padding: reference.padding, .normal((2 / Double(reference.kernel * reference.kernel * reference.c)).squareRoot()))
    state = NetworkState(layout, ParameterLayout())
    state.initialise(seed: 7)
    gradients = ParameterSlab(layout)
    weight = Array(UnsafeBufferPointer(start: state.parameters[convolution.weight], count: reference.weights))
    x = context.arena.tensor(n: reference.n, h: reference.h, w: reference.w, c: reference.c)
    dy = context.arena.tensor(n: reference.n, h: reference.height, w: reference.width, c: reference.k)
    var draws = Draws(seed: 7, .initialisation, named: "x and dy")
    for i in x.buffer.indices { x.buffer[i] = Float(draws.normal()) }
    for i in dy.buffer.indices { dy.buffer[i] = Float(draws.normal()) }
  }

  var pass: Pass {
    Pass(context, state, .train, BatchGroups(images: reference.n, in: context.arena), gradients: gradients)
  }

  /// Runs the layer. Results that must be overwritten start as NaN, and those that are added to as `start`.
  func run(accumulate: Bool = false, start: Float = 0) -> (y: [Float], dx: [Float], dw: [Float]) {
    let y = context.arena.tensor(like: dy)
    let dx = context.arena.tensor(like: x)
    y.buffer.update(repeating: .nan)
    dx.buffer.update(repeating: accumulate ? start : .nan)
    gradients.buffer.update(repeating: start)
    convolution.forward(x, into: y, pass)
    convolution.backward(dy, x: x, dx: dx, accumulate: accumulate, pass)
    let dw = UnsafeBufferPointer(start: gradients[convolution.weight], count: reference.weights)
    return (Array(y.buffer), Array(dx.buffer), Array(dw))
  }

  /// Plans the arena in a dry run, then runs every smaller batch; an arena whose plan is too small stops the program.
  func checkPlan() {
    let mark = context.arena.mark()
    context.dry { traverse(reference.n) }
    context.arena.release(to: mark)
    context.arena.seal()
    for n in 0...reference.n {
      let mark = context.arena.mark()
      traverse(n)
      context.arena.release(to: mark)
    }
  }

  private func traverse(_ n: Int) {
    // Full size for every batch, so that a smaller batch does not leave more room for the workspace.
    let y = context.arena.tensor(like: dy)
    let dx = context.arena.tensor(like: x)
    let pass = pass
    convolution.forward(x.images(0..<n), into: y.images(0..<n), pass)
    convolution.backward(dy.images(0..<n), x: x.images(0..<n), dx: dx.images(0..<n), accumulate: false, pass)
  }

  /// The same three results in Double. With `magnitudes` of absolute values, to which rounding errors are proportional
  /// in any order of summation.
  func expected(magnitudes: Bool = false) -> (y: [Double], dx: [Double], dw: [Double]) {
    func double(_ values: some Sequence<Float>) -> [Double] { values.map { magnitudes ? abs(Double($0)) : Double($0) } }
    let x = double(x.buffer)
    let dy = double(dy.buffer)
    let weight = double(weight)
    return (reference.forward(x, weight), reference.dataGradient(dy, weight), reference.weightGradient(dy, x))
  }
}

/// The largest ratio of |found − expected| to `unit` · magnitude; not finite if a value is missing.
func worst(_ found: [Float], _ expected: [Double], _ magnitude: [Double], unit: Double) -> Double {
  guard found.count == expected.count else { return .infinity }
  var worst = 0.0
  for i in found.indices {
    let ratio = abs(Double(found[i]) - expected[i]) / (unit * magnitude[i] + 1e-30)
    if !(ratio <= worst) { worst = ratio.isNaN ? .infinity : ratio }
  }
  return worst
}
