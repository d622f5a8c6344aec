import Engine
import Foundation
import Ranks
import Testing

@Suite struct ArenaTests {
  @Test func memoryIsAlignedAndDistinct() {
    let arena = Arena(reserving: 1 << 22)
    defer { withExtendedLifetime(arena) {} }
    var taken: [Range<UInt>] = []
    for (i, count) in [1, 3, 16, 17, 0, 100, 1000].enumerated() {
      let start: UInt
      let bytes: Int
      if i % 2 == 0 {
        start = UInt(bitPattern: arena.array(of: Float.self, count: count).baseAddress!)
        bytes = count * 4
      } else {
        start = UInt(bitPattern: arena.array(of: Double.self, count: count).baseAddress!)
        bytes = count * 8
      }
      #expect(start % 64 == 0)
      let range = start..<start + UInt(bytes)
      #expect(taken.allSatisfy { !$0.overlaps(range) })
      taken.append(range)
    }
  }

  @Test func releaseGivesMemoryBackAndKeepsThePeak() {
    let arena = Arena(reserving: 1 << 22)
    defer { withExtendedLifetime(arena) {} }
    _ = arena.tensor(n: 2, c: 16)
    let mark = arena.mark()
    let first = arena.tensor(n: 1, h: 3, w: 5, c: 16)
    #expect(first.count == 240 && first.shape == (1, 3, 5, 16) && first.rows == 15 && first.rowsPerImage == 15)
    arena.release(to: mark)
    #expect(arena.tensor(n: 1, c: 1).data == first.data)
    #expect(arena.peak == 128 + 960)
  }

  @Test func sealedArenaStopsAtItsPlan() async {
    silenceBacktraces()
    await #expect(processExitsWith: .success) {
      let arena = Arena(reserving: 1 << 22)
      let mark = arena.mark()
      _ = arena.tensor(n: 1, c: 64)
      arena.release(to: mark)
      arena.seal()
      _ = arena.tensor(n: 1, c: 32)
      _ = arena.tensor(n: 1, c: 32)
    }
    await #expect(processExitsWith: .failure) {
      let arena = Arena(reserving: 1 << 22)
      let mark = arena.mark()
      _ = arena.tensor(n: 1, c: 64)
      arena.release(to: mark)
      arena.seal()
      _ = arena.tensor(n: 1, c: 64)
      _ = arena.tensor(n: 1, c: 1)
    }
  }

  /// The lower stack can be released while the upper one is in use. The plan is the peak of their sum.
  @Test func stacksShareThePlan() async {
    let arena = Arena(reserving: 1 << 22)
    defer { withExtendedLifetime(arena) {} }
    func fill() -> (first: Tensor, brief: Tensor, second: Tensor) {
      let bottom = arena.mark()
      let first = arena.tensor(n: 1, c: 96)
      let middle = arena.mark()
      _ = arena.tensor(n: 1, c: 32)
      let brief = arena.temporary(like: first)
      #expect(arena.isLowerTop(bottom) == false)
      arena.releaseLower(to: middle)
      #expect(arena.isLowerTop(middle))
      let second = arena.tensor(n: 1, c: 32)
      arena.release(to: bottom)
      arena.release(to: middle)  // higher than the stack: no effect
      #expect(arena.isLowerTop(bottom))
      return (first, brief, second)
    }
    _ = fill()
    #expect(arena.peak == (96 + 32 + 96) * 4)
    arena.seal()
    let (first, brief, second) = fill()
    #expect(second.data == first.data + 96 && brief.data == first.data + 128, "all of the plan is used")
    silenceBacktraces()
    await #expect(processExitsWith: .failure) {
      let arena = Arena(reserving: 1 << 22)
      let mark = arena.mark()
      _ = arena.tensor(n: 1, c: 64)
      arena.release(to: mark)
      arena.seal()
      _ = arena.tensor(n: 1, c: 48)
      _ = arena.temporary(n: 1, c: 32)
    }
  }

  @Test func imagesShareMemory() {
    let arena = Arena(reserving: 1 << 22)
    defer { withExtendedLifetime(arena) {} }
    let x = arena.normal(n: 5, h: 2, w: 3, c: 4, "x")
    let part = x.images(2..<4)
    #expect(part.shape == (2, 2, 3, 4) && part.data == x.data + 48)
    #expect(x.images(5..<5).count == 0)
  }
}

/// The plan of a whole step of a small network.
@Suite struct PlanTests {
  private let network = Network(
    .init(.resnet18, width: 1 / 32, stem: .imagenet),
    head: [.init(17, bias: false, .scale, relu: true), .init(9, bias: true)])

  private func step(
    _ context: Context, _ trained: Trained, images: Int, size: Int = 33, _ kind: NormalisationGroups = .group(images: 2)
  ) {
    let mark = context.arena.mark()
    let groups = BatchGroups(kind, batch: images, positions: 0..<images, views: 2, ranks: 1, in: context.arena)
    let x = context.arena.tensor(n: 2 * images, h: size, w: size, c: 3)
    context.run(1) { _, _ in x.buffer.update(repeating: 0.5) }
    let pass = trained.pass(context, groups)
    let tape = network.forward(x, pass)
    let d = context.arena.tensor(like: tape.output)
    context.run(1) { _, _ in d.data.update(from: tape.output.data, count: d.count) }
    _ = NTXent(temperature: 0.2).apply(d, shares: [images], context)
    network.backward(d, tape, pass)
    trained.reducer.finish()
    context.arena.release(to: mark)
  }

  private func encode(_ context: Context, _ trained: Trained, _ mode: Mode, images: Int) {
    let mark = context.arena.mark()
    let x = context.arena.tensor(n: images, h: 33, w: 33, c: 3)
    let groups = BatchGroups(
      .shuffle(images: 2), batch: images, positions: 0..<images, order: Array((0..<images).reversed()), ranks: 1,
      in: context.arena)
    let copy = Trained("key", network, context)
    copy.state.copy(trained.state)
    _ = network.forward(x, Pass(context, copy.state, mode, groups))
    context.arena.release(to: mark)
  }

  @Test(arguments: [1, 3]) func dryRunPlansTheRealOne(threads: Int) {
    let context = Context(threads: threads)
    defer { withExtendedLifetime(context) {} }
    let trained = Trained("encoder", network, context)
    trained.state.initialise(seed: 1)
    context.dry { step(context, trained, images: 6) }
    let planned = context.arena.peak
    #expect(planned > 100_000 && !context.isDry)
    context.arena.seal()
    step(context, trained, images: 6)
    #expect(context.arena.peak == planned)
    // All smaller steps must fit; the program would stop if one did not.
    for images in 1..<6 { step(context, trained, images: images) }
    step(context, trained, images: 6, size: 17)
    step(context, trained, images: 6, .global)
    for mode in [Mode.inference, .target] { encode(context, trained, mode, images: 12) }
    #expect(context.arena.peak == planned)
  }

  @Test func largerStepThanPlannedStops() async {
    silenceBacktraces()
    await #expect(processExitsWith: .failure) {
      let test = PlanTests()
      let context = Context()
      let trained = Trained("encoder", test.network, context)
      context.dry { test.step(context, trained, images: 3) }
      context.arena.seal()
      test.step(context, trained, images: 4)
    }
  }

  /// A dry run computes nothing, communicates nothing, and touches few pages of the arena.
  @Test func dryRunTouchesNothing() {
    let context = Context(communicator: PretendedRanks(0, of: 2))
    defer { withExtendedLifetime(context) {} }
    let trained = Trained("encoder", network, context)
    trained.state.randomise()
    trained.gradients.buffer.update(repeating: 3)
    let before = [trained.state.parameters, trained.state.statistics, trained.gradients, trained.moments[0].slab].map(
      \.bits)
    let base = context.arena.array(of: UInt8.self, count: 0).baseAddress!
    context.dry {
      let groups = BatchGroups(.global, batch: 128, positions: 0..<64, views: 2, ranks: 2, in: context.arena)
      let x = context.arena.tensor(n: 128, h: 64, w: 64, c: 3)
      let pass = trained.pass(context, groups)
      let tape = network.forward(x, pass)
      let d = context.arena.tensor(like: tape.output)
      _ = NTXent(temperature: 0.2).apply(d, shares: [64, 64], context)
      network.backward(d, tape, pass)
      trained.reducer.finish()
    }
    #expect(
      [trained.state.parameters, trained.state.statistics, trained.gradients, trained.moments[0].slab].map(\.bits)
        == before)
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let pages = context.arena.peak / page
    var resident = [UInt8](repeating: 0, count: pages)
    #expect(mincore(base, pages * page, &resident) == 0)
    let touched = resident.reduce(0) { $0 + Int($1 & 1) }
    // Tapes are written into the arena, a few cache lines each, but no values.
    #expect(pages > 2000 && touched < pages / 100, "\(touched) of \(pages) pages")
  }
}
