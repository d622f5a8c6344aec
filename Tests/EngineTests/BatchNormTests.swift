import Engine
import TestSupport
import Testing

private let channels = [1, 3, 8, 16, 17, 24, 40]

@Suite struct BatchNormTests {
  @Test(arguments: Division.all, channels) func trainEqualsReference(division: Division, c: Int) {
    for (h, w) in [(1, 1), (3, 5)] where !(h == 1 && division.kind != .global) {
      let test = NormCase(division, h: h, w: w, c: c)
      test.expect(NormRun(test, .train), .train, "\(division), \(h)×\(w)×\(c)")
    }
  }

  /// More rows than are summed in Float at once.
  @Test(arguments: channels) func largeImages(c: Int) {
    let test = NormCase(.init(kind: .group(images: 2), batch: 5), h: 9, w: 11, c: c)
    test.expect(NormRun(test, .train), .train, "\(c) channels")
  }

  @Test(arguments: [(true, false), (false, true), (false, false)]) func withoutReluOrResidual(
    relu: Bool, residual: Bool
  ) {
    let test = NormCase(.init(kind: .global, batch: 3), h: 3, w: 3, c: 19, relu: relu, residual: residual)
    test.expect(NormRun(test, .train), .train, "relu \(relu), residual \(residual)")
  }

  @Test(arguments: channels) func frozenEqualsReference(c: Int) {
    let test = NormCase(.init(kind: .group(images: 2), batch: 7), h: 3, w: 5, c: c, frozen: true)
    test.expect(NormRun(test, .frozen), .frozen, "\(c) channels")
  }

  @Test(arguments: [8, 17], [false, true]) func passesWithoutBackward(c: Int, inPlace: Bool) {
    let division = Division(kind: .group(images: 2), batch: 5)
    let batch = NormCase(division, h: 3, w: 5, c: c)
    let running = NormCase(division, h: 3, w: 5, c: c, frozen: true)
    batch.expect(NormRun(batch, .target, inPlace: inPlace), .target, "target")
    running.expect(NormRun(running, .inference, inPlace: inPlace), .inference, "inference")
  }

  /// Missing γ and β are 1 and 0 (SimCLR's last head layer has no β).
  @Test func withoutScaleOrShift() {
    for (scale, shift) in [(true, false), (false, true), (false, false)] {
      let context = Context(arena: Arena(reserving: 1 << 24))
      let arena = context.arena
      defer { withExtendedLifetime(context) {} }
      var parameters = ParameterLayout()
      var statistics = ParameterLayout()
      let layer = BatchNorm(&parameters, &statistics, "bn", channels: 17, scale: scale, shift: shift, initialScale: 1)
      let names = (scale ? ["bn.weight"] : []) + (shift ? ["bn.bias"] : [])
      #expect(parameters.entries.map(\.name) == names)
      let state = NetworkState(parameters, statistics)
      let gradients = ParameterSlab(parameters)
      state.randomise()
      let x = arena.normal(n: 4, c: 17, "x")
      let y = arena.poisoned(like: x)
      let groups = BatchGroups(images: 4, in: arena)
      _ = layer.forward(x, relu: false, into: y, Pass(context, state, .train, groups, gradients: gradients))
      let one = [Double](repeating: 1, count: 17)
      let map = Map(x)
      let all = [0, 0, 0, 0]
      let reference = ReferenceBatchNorm(
        gamma: layer.gamma.map { state.parameters.values($0) } ?? one,
        beta: layer.beta.map { state.parameters.values($0) } ?? one.map { _ in 0 })
      let expected = reference.forward(map, all, ReferenceBatchNorm.moments(map, all)).values
      // The bound of NormCase for four rows of size 1, with larger constants.
      expectClose(
        y.buffer, expected, within: expected.map { 200 * roundoff * (1 + abs($0)) }, "scale \(scale), shift \(shift)")
    }
  }

  /// A constant channel has variance 0. Its output is β, and everything is finite.
  @Test func constantChannel() {
    let context = Context(arena: Arena(reserving: 1 << 24))
    let arena = context.arena
    defer { withExtendedLifetime(context) {} }
    var parameters = ParameterLayout()
    var statistics = ParameterLayout()
    let layer = BatchNorm(&parameters, &statistics, "bn", channels: 17)
    let state = NetworkState(parameters, statistics)
    let gradients = ParameterSlab(parameters)
    state.initialise(seed: 1)
    let x = arena.normal(n: 4, h: 5, w: 5, c: 17, "constant", deviation: 0, mean: 3)
    let y = arena.poisoned(like: x)
    let pass = Pass(context, state, .train, BatchGroups(images: 4, in: arena), gradients: gradients)
    let tape = layer.forward(x, relu: false, into: y, pass)
    #expect(y.buffer.allSatisfy { abs($0) < 1e-3 })
    layer.backward(arena.normal(n: 4, h: 5, w: 5, c: 17, "dy"), relu: false, x: x, tape, pass)
    #expect(x.buffer.allSatisfy { $0.isFinite })
  }

  @Test(arguments: Division.all) func groupsAreAsEvenAsCanBe(division: Division) {
    let sizes = Dictionary(grouping: division.groups) { $0 }.mapValues { $0.count / division.views }
    #expect(sizes.count == division.kind.count(batch: division.batch))
    #expect(sizes.values.max()! - sizes.values.min()! <= 1)
    let arena = Arena(reserving: 1 << 20)
    defer { withExtendedLifetime(arena) {} }
    let groups = BatchGroups(
      division.kind, batch: division.batch, positions: 0..<division.batch, views: division.views, order: division.order,
      ranks: 1, in: arena)
    #expect(groups.group.map(Int.init) == division.groups)
    #expect(!groups.spansRanks)
  }

  @Test func shuffleIsAPermutationKeyedByStep() {
    func shuffle(batch: Int, seed: UInt64, step: Int) -> [Int] {
      var places: [Int] = []
      BatchGroups.shuffle(batch: batch, seed: seed, step: step, into: &places)
      return places
    }
    let order = shuffle(batch: 50, seed: 3, step: 8)
    #expect(order.sorted() == Array(0..<50))
    #expect(order == shuffle(batch: 50, seed: 3, step: 8))
    #expect(order != shuffle(batch: 50, seed: 3, step: 9))
    #expect(order != shuffle(batch: 50, seed: 4, step: 8))
  }

  @Test(arguments: Division.all) func threadsDoNotChangeABit(division: Division) {
    let test = NormCase(division, h: 7, w: 7, c: 24)
    let one = NormRun(test, .train)
    for threads in [2, 3] {
      let run = NormRun(test, .train, threads: threads)
      #expect(run.y == one.y && run.dx == one.dx && run.dGamma == one.dGamma && run.dBeta == one.dBeta)
      #expect(run.mean == one.mean && run.variance == one.variance)
    }
  }
}

/// Inputs whose sum shows the order of summation: 2⁶⁰ + 1 − 2⁶⁰ + 1 is 1 in one order and 0 or 2 in others.
@Suite struct SummationTests {
  @Test func doesNotDependOnThreads() {
    let results = [1, 2, 3].map { threads in
      let context = Context(threads: threads, arena: Arena(reserving: 1 << 24))
      let arena = context.arena
      defer { withExtendedLifetime(context) {} }
      var parameters = ParameterLayout()
      var statistics = ParameterLayout()
      let layer = BatchNorm(&parameters, &statistics, "bn", channels: 17)
      let state = NetworkState(parameters, statistics)
      let gradients = ParameterSlab(parameters)
      state.initialise(seed: 1)
      let x = arena.tensor(n: 12, c: 17)
      let dy = arena.tensor(like: x)
      let large = Float(sign: .plus, exponent: 60, significand: 1)
      for i in x.buffer.indices { (x.buffer[i], dy.buffer[i]) = (Float(i % 5), [large, 1, -large, 1][(i / 17) % 4]) }
      let y = arena.tensor(like: x)
      let groups = BatchGroups(images: 12, in: arena)
      let pass = Pass(context, state, .train, groups, gradients: gradients)
      layer.backward(dy, relu: false, x: x, layer.forward(x, relu: false, into: y, pass), pass)
      return [y.bits, x.bits, gradients.bits, state.statistics.bits]
    }
    #expect(results[1] == results[0] && results[2] == results[0])
  }
}

@Suite struct BatchNormRanksTests {
  @Test(arguments: Division.all, [1, 2, 3, 4]) func ranksEqualReference(division: Division, ranks: Int) {
    for c in [3, 17] {
      let test = NormCase(division, h: 3, w: 5, c: c)
      let runs = Ranks.run(ranks) { NormRun(test, .train, $0) }
      test.expect(NormRun.merged(runs), .train, "\(division) on \(ranks) ranks")
      #expect(
        runs.allSatisfy { $0.mean == runs[0].mean && $0.variance == runs[0].variance },
        "running statistics are replicated")
    }
  }

  /// More ranks than images, so some ranks have none.
  @Test func emptyRanks() {
    let test = NormCase(.init(kind: .global, batch: 2), h: 3, w: 3, c: 17)
    test.expect(NormRun.merged(Ranks.run(4) { NormRun(test, .train, $0) }), .train, "2 images on 4 ranks")
  }

  /// Control: with local statistics the error is at least ten times the bound.
  @Test(arguments: [2, 3, 4]) func localStatisticsMissTheBound(ranks: Int) {
    let test = NormCase(.init(kind: .global, batch: 7), h: 3, w: 5, c: 17)
    let run = NormRun.merged(Ranks.run(ranks) { NormRun(test, .train, isLocal: true, $0) })
    let forward = test.expectedForward()
    let gradients = test.expectedBackward(mask: run.y.map { $0 > 0 })
    #expect(worstRatio(run.y.map(Double.init), forward.y, forward.bound).ratio > 10)
    #expect(worstRatio(run.dx.map(Double.init), gradients.dx, gradients.dxBound).ratio > 10)
    #expect(worstRatio(run.dGamma.map(Double.init), gradients.dGamma, gradients.dGammaBound).ratio > 10)
  }

  /// If no group spans ranks, backward communicates nothing. Collectives name the layer.
  @Test func backwardOfWholeGroupsIsSilent() {
    let whole = NormCase(.init(kind: .group(images: 2), batch: 8), h: 3, w: 3, c: 3)
    let calls = Ranks.run(2) { communicator in
      _ = NormRun(whole, .train, communicator)
      return communicator.calls
    }
    #expect(calls.allSatisfy { $0.map(\.description) == ["batch statistics of bn"] }, "\(calls)")
  }
}
