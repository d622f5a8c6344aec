import Engine
import Randomness
import Testing

private let channels = [1, 3, 8, 16, 17, 24, 40]

@Suite struct LinearTests {
  struct Result: Equatable { var y: [Float], dx: [Float], dWeight: [Float], dBias: [Float] }
  /// Initial value of gradients, which are added to.
  static let start: Float = 0.5

  static func run(
    n: Int, inputs: Int, outputs: Int, bias: Bool, threads: Int = 1,
    expect: (Linear, NetworkState, Tensor, Tensor, Result) -> Void = { _, _, _, _, _ in }
  ) -> Result {
    let context = Context(threads: threads, arena: Arena(reserving: 1 << 26))
    let arena = context.arena
    defer { withExtendedLifetime(context) {} }
    var parameters = ParameterLayout()
    let layer = Linear(
      &parameters, "fc", inputs: inputs, outputs: outputs, bias: bias, weight: .torchLinear(fanIn: inputs))
    let state = NetworkState(parameters, ParameterLayout())
    let gradients = ParameterSlab(parameters)
    state.randomise()
    for entry in parameters.entries { for i in 0..<entry.slice.count { gradients[entry.slice][i] = start } }
    let x = arena.normal(n: n, c: inputs, "x")
    let dy = arena.normal(n: n, c: outputs, "dy")
    let y = arena.poisoned(like: dy)
    let dx = arena.poisoned(like: x)
    let pass = Pass(context, state, .train, BatchGroups(images: n, in: arena), gradients: gradients)
    layer.forward(x, into: y, pass)
    layer.backward(dy, x: x, dx: dx, pass)
    func get(_ slice: Slice?) -> [Float] {
      slice.map { Array(UnsafeBufferPointer(start: gradients[$0], count: $0.count)) } ?? []
    }
    let result = Result(y: Array(y.buffer), dx: Array(dx.buffer), dWeight: get(layer.weight), dBias: get(layer.bias))
    #expect(gradients.paddingIsZero)
    expect(layer, state, x, dy, result)
    return result
  }

  /// A sum of m products is within m·u·Σ|products| in any order of summation; blocks have 64 rows and 256 columns.
  @Test(arguments: [(1, 1, 1), (2, 3, 5), (64, 17, 24), (65, 40, 17), (130, 8, 257), (3, 300, 600)], [true, false])
  func equalsReference(shape: (n: Int, inputs: Int, outputs: Int), bias: Bool) {
    _ = Self.run(n: shape.n, inputs: shape.inputs, outputs: shape.outputs, bias: bias) { layer, state, x, dy, found in
      func double(_ tensor: Tensor, magnitude: Bool) -> Map { magnitude ? Map(tensor).map(abs) : Map(tensor) }
      func expected(magnitude: Bool) -> (y: Map, dx: Map, dWeight: [Double], dBias: [Double]) {
        let x = double(x, magnitude: magnitude)
        let dy = double(dy, magnitude: magnitude)
        func values(_ slice: Slice) -> [Double] { state.parameters.values(slice).map { magnitude ? abs($0) : $0 } }
        let weight = values(layer.weight)
        let back = ReferenceLayers.linearBackward(dy, x, weight)
        return (ReferenceLayers.linear(x, weight, layer.bias.map(values)), back.dx, back.dWeight, back.dBias)
      }
      let exact = expected(magnitude: false)
      let size = expected(magnitude: true)
      let u = roundoff
      let start = Double(Self.start)
      expectClose(found.y, exact.y.values, within: size.y.values.map { Double(shape.inputs + 1) * u * $0 }, "y")
      expectClose(found.dx, exact.dx.values, within: size.dx.values.map { Double(shape.outputs) * u * $0 }, "dx")
      expectClose(
        found.dWeight, exact.dWeight.map { $0 + start },
        within: size.dWeight.map { Double(shape.n + 1) * u * ($0 + start) }, "dW")
      if bias {
        expectClose(found.dBias, exact.dBias.map { $0 + start }, within: size.dBias.map { 2 * u * ($0 + start) }, "db")
      }
    }
  }

  @Test func threadsDoNotChangeABit() {
    let one = Self.run(n: 130, inputs: 33, outputs: 600, bias: true)
    for threads in [2, 3] { #expect(Self.run(n: 130, inputs: 33, outputs: 600, bias: true, threads: threads) == one) }
  }
}

@Suite struct PoolingTests {
  private static let sizes = [(1, 1), (1, 2), (2, 3), (5, 4), (7, 9), (8, 8)]

  private func maxPool(_ x: Tensor, _ dy: (Tensor) -> Void, _ context: Context) -> (y: Tensor, dx: Tensor, dy: Tensor) {
    let y = context.arena.tensor(n: x.n, h: MaxPool.extent(of: x.h), w: MaxPool.extent(of: x.w), c: x.c)
    y.buffer.update(repeating: .nan)
    let winner = context.arena.array(of: UInt8.self, count: y.count).baseAddress!
    let gradient = context.arena.tensor(like: y)
    MaxPool.forward(x, into: y, winner: winner, context)
    dy(gradient)
    let dx = context.arena.poisoned(like: x)
    MaxPool.backward(gradient, winner: winner, dx: dx, context)
    return (y, dx, gradient)
  }

  @Test(arguments: sizes, channels) func maxPoolEqualsReference(size: (h: Int, w: Int), c: Int) {
    let context = Context(arena: Arena(reserving: 1 << 26))
    defer { withExtendedLifetime(context) {} }
    for ties in [false, true] {
      let x = context.arena.normal(n: 3, h: size.h, w: size.w, c: c, "max", mean: -1)
      // Few distinct values, so that values tie; the first must win, as in torch.
      if ties { for i in x.buffer.indices { x.buffer[i] = (2 * x.buffer[i]).rounded() } }
      var draws = Draws(test: "dy")
      let (y, dx, dy) = maxPool(x, { for i in $0.buffer.indices { $0.buffer[i] = Float(draws.normal()) } }, context)
      let (expected, winner) = ReferenceLayers.maxPool(Map(x))
      #expect(y.shape == expected.shape)
      #expect(y.buffer.map(Double.init) == expected.values, "a maximum is exact")
      let gradient = ReferenceLayers.maxPoolBackward(Map(dy), winner, like: Map(x))
      let bound = ReferenceLayers.maxPoolBackward(Map(dy).map(abs), winner, like: Map(x)).values.map {
        3 * roundoff * $0
      }
      expectClose(dx.buffer, gradient.values, within: bound, "dx, \(size), \(c) channels")
    }
  }

  @Test(arguments: [3, 17]) func maxPoolPassesNaN(c: Int) {
    let context = Context(arena: Arena(reserving: 1 << 24))
    defer { withExtendedLifetime(context) {} }
    let x = context.arena.normal(n: 1, h: 4, w: 4, c: c, "x")
    for channel in 0..<c { x.buffer[channel] = .nan }
    let y = maxPool(x, { $0.buffer.update(repeating: 1) }, context).y
    #expect((0..<c).allSatisfy { y.buffer[$0].isNaN })
    #expect((c..<4 * c).allSatisfy { y.buffer[$0].isFinite })
  }

  /// A mean of m values, summed in Float: within m·u·mean|x|, plus a rounding of the factor and of the product.
  @Test(arguments: sizes, channels) func averagePoolEqualsReference(size: (h: Int, w: Int), c: Int) {
    let context = Context(arena: Arena(reserving: 1 << 26))
    defer { withExtendedLifetime(context) {} }
    let x = context.arena.normal(n: 3, h: size.h, w: size.w, c: c, "average")
    let dy = context.arena.normal(n: 3, c: c, "dy")
    let y = context.arena.poisoned(like: dy)
    let dx = context.arena.poisoned(like: x)
    AveragePool.forward(x, into: y, context)
    AveragePool.backward(dy, dx: dx, context)
    let count = Double(size.h * size.w)
    expectClose(
      y.buffer, ReferenceLayers.averagePool(Map(x)).values,
      within: ReferenceLayers.averagePool(Map(x).map(abs)).values.map { (count + 2) * roundoff * $0 }, "y")
    let expected = ReferenceLayers.averagePoolBackward(Map(dy), like: Map(x)).values
    expectClose(dx.buffer, expected, within: expected.map { 2 * roundoff * abs($0) }, "dx")
  }

  @Test func threadsDoNotChangeABit() {
    let results = [1, 2, 3].map { threads in
      let context = Context(threads: threads, arena: Arena(reserving: 1 << 26))
      defer { withExtendedLifetime(context) {} }
      let x = context.arena.normal(n: 5, h: 7, w: 9, c: 24, "x")
      let average = context.arena.tensor(n: 5, c: 24)
      AveragePool.forward(x, into: average, context)
      let (y, dx, _) = maxPool(x, { $0.buffer.update(repeating: 0.1) }, context)
      return [average.bits, y.bits, dx.bits]
    }
    #expect(results[1] == results[0] && results[2] == results[0])
  }
}

@Suite struct ElementwiseTests {
  /// More elements than one block of an elementwise pass.
  @Test func reluAndItsGradient() {
    let results = [1, 2, 3].map { threads in
      let context = Context(threads: threads, arena: Arena(reserving: 1 << 26))
      defer { withExtendedLifetime(context) {} }
      let x = context.arena.normal(n: 3, h: 100, w: 111, c: 3, "x")
      let y = context.arena.copy(x)
      let dy = context.arena.normal(n: 3, h: 100, w: 111, c: 3, "dy")
      let dx = context.arena.copy(dy)
      x.buffer[7] = .nan
      y.buffer[7] = .nan
      ReLU.forward(y, context)
      ReLU.backward(dx, y: y, context)
      #expect(y.buffer[7].isNaN, "NaN must not be hidden")
      let masked = x.buffer.indices.allSatisfy { i in
        i == 7 || (y.buffer[i] == max(0, x.buffer[i]) && dx.buffer[i] == (x.buffer[i] > 0 ? dy.buffer[i] : 0))
      }
      #expect(masked)
      return [y.bits, dx.bits]
    }
    #expect(results[1] == results[0] && results[2] == results[0])
  }

  /// Norm and quotient are in Double, with one rounding each. The gradient uses the rounded unit vector.
  @Test(arguments: channels.filter { $0 > 1 }) func normaliseEqualsReference(c: Int) {
    let context = Context(arena: Arena(reserving: 1 << 24))
    defer { withExtendedLifetime(context) {} }
    let z = context.arena.normal(n: 70, c: c, "z", deviation: 3)
    let unit = context.arena.poisoned(like: z)
    let norms = context.arena.array(of: Float.self, count: 70).baseAddress!
    let d = context.arena.normal(n: 70, c: c, "d")
    let dz = context.arena.copy(d)
    L2Normalise.forward(z, into: unit, norms: norms, context)
    L2Normalise.backward(dz, unit: unit, norms: norms, context)
    let expected = ReferenceLayers.normalise(Map(z))
    expectClose(unit.buffer, expected.values, within: expected.values.map { 2 * roundoff * abs($0) }, "unit")
    let gradient = ReferenceLayers.normaliseBackward(Map(d), Map(z)).values
    let bound = gradient.indices.map { i in
      let row = i / c
      let norm = Double(norms[row])
      let dots = (0..<c).reduce(0) { $0 + abs(Double(d.buffer[row * c + $1]) * expected.values[row * c + $1]) }
      return 4 * roundoff * (abs(Double(d.buffer[i])) + abs(expected.values[i]) * dots) / norm
    }
    expectClose(dz.buffer, gradient, within: bound, "dz")
  }

  @Test func normaliseOfZeroIsZero() {
    let context = Context(arena: Arena(reserving: 1 << 20))
    defer { withExtendedLifetime(context) {} }
    let z = context.arena.normal(n: 1, c: 5, "z", deviation: 0)
    L2Normalise.forward(z, into: z, norms: nil, context)
    #expect(z.buffer.allSatisfy { $0 == 0 })
  }
}
