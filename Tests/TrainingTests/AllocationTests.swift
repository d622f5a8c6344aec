import CAllocations
import Engine
import Foundation
import Shards
import Synchronization
import Testing
import Training

/// After the first step, computing threads allocate no memory. Allocations are counted by interposing malloc, on the
/// caller's thread and the team's, not on the loader's. There is one rank, so MPI is not involved.
@Suite(.serialized, .enabled(if: callocations_work(), "the C library's allocator cannot be replaced here"))
struct AllocationTests {
  /// Three batches of 12, and one of 4.
  private let images: GreyImages
  private var data: DataSet { images.data }

  init() throws { images = try .noise(count: 40, side: 40, classes: 3) }

  struct Case: CustomStringConvertible {
    var method: String, encoder = "{name: resnet18, width: 0.25, stem: small}", size = 16, optimizer = "sgd"
    var convolution = "fast", threads = 1
    var description: String { "\(method) \(encoder) \(size) px \(optimizer) \(convolution) \(threads) threads" }
  }

  private static let simclr = "method: {name: simclr, temperature: 0.5, head: [features, 16]}\nbatchNorm: global"
  private static let simclrV2 = """
    method: {name: simclr, temperature: 0.5, head: [features, features, 16], memory: {queue: 50}}
    batchNorm: {group: 4}
    """
  private static let moco =
    "method: {name: moco, temperature: 0.2, head: [features, 16], queue: 50}\nbatchNorm: {shuffle: 4}"

  private static let bank = "method: {name: memory-bank, head: [16], negatives: 20}\nbatchNorm: global"
  private static let wholeBank =
    "method: {name: memory-bank, head: [16], negatives: 0, loss: softmax}\nbatchNorm: global"
  private static let adco = "method: {name: adco, head: [features, 16], negatives: 20}\nbatchNorm: {shuffle: 4}"
  private static let symmetric =
    "method: {name: adco, head: [16], negatives: 40, symmetric: true}\nbatchNorm: {shuffle: 4}"

  private static let supervised = """
    method:
      {name: supervised, smoothing: 0.1, classWeights: balanced, classifier: {layers: [{width: features}]}}
    batchNorm: {group: 4}
    """
  private static let distil =
    "method: {name: distil, teacher: previous, temperature: 2, alpha: 0.5}\nbatchNorm: global"
  private static let ofOneView = [bank, wholeBank, supervised, distil]

  /// Every method, layer, convolution algorithm and optimizer, on one thread and on two.
  static let cases = [1, 2].flatMap { threads in
    [
      Case(method: simclr, threads: threads),
      Case(method: simclr, optimizer: "lars", convolution: "exact", threads: threads),
      Case(method: simclr, encoder: "{name: resnet50, width: 0.25, stem: imagenet}", size: 40, threads: threads),
      Case(
        method: simclrV2,
        encoder: "{name: resnet50, width: 0.25, stem: imagenet, variant: d, selectiveKernels: 0.0625}",
        size: 40, threads: threads),
      Case(method: moco, threads: threads),
      Case(method: "method: {name: end-to-end, head: [16]}\nbatchNorm: {shuffle: 4}", threads: threads),
      Case(method: "method: {name: byol, head: [32, 16], predictor: [32, 16]}\nbatchNorm: global", threads: threads),
      Case(
        method: "method: {name: swav, head: [32, 16], prototypes: 9, freeze: 1 steps, queue: 24, queueFrom: 0 steps}\n"
          + "batchNorm: global", threads: threads),
      Case(method: moco, encoder: "{name: resnet50, width: 0.25, stem: small}", threads: threads),
      Case(method: bank, threads: threads),
      Case(method: wholeBank, threads: threads),
      Case(method: adco, threads: threads),
      Case(method: symmetric, threads: threads),
      Case(method: supervised, threads: threads),
      Case(method: distil, threads: threads),
    ]
  }

  private func stageRun(_ test: Case) throws -> StageRun {
    let yaml = """
      encoder: \(test.encoder)
      views:
        - count: \(Self.ofOneView.contains(test.method) ? 1 : 2)
          size: \(test.size)
          operations: [{crop: {scale: [0.3, 1]}}, {flip: 0.5}, {normalise: dataset}]
      optimizer: {name: \(test.optimizer), rate: 0.05}
      schedule: {name: cosine}
      batch: 12
      data: {last: keep}
      convolution: \(test.convolution)
      length: 16 steps
      \(test.method)
      """
    let recipe = try Recipe(yaml: yaml, from: "test")
    let stageRun = try StageRun(
      recipe.stages[0], data: data, heldOut: nil, seed: 1, index: 0,
      teachers: Teacher.drawn(for: recipe.stages[0], data),
      Context(threads: test.threads))
    stageRun.method.initialise()
    return stageRun
  }

  /// Runs `body` once on every thread of the team: each thread waits for all others, so none gets two blocks.
  private func onEveryThread(of stageRun: StageRun, _ body: () -> Void) {
    let team = stageRun.context.team
    let arrived = Atomic<Int>(0)
    team.run(team.count) { _, _ in
      arrived.wrappingAdd(1, ordering: .relaxed)
      while arrived.load(ordering: .relaxed) < team.count { sched_yield() }
      body()
    }
  }

  /// Counts the allocations of 16 steps, from the batch to the update, with smaller batches and an evaluation between
  /// them. The first steps, in which the loader's batches are used for the first time, are not counted.
  /// - Parameters:
  ///   - expected: expected allocations per step; backtraces of others are printed.
  ///   - inside: called in the middle of a counted step.
  private func allocations(_ test: Case, expected: Int = 0, inside: (StageRun) -> Void = { _ in }) throws -> Int {
    let stageRun = try stageRun(test)
    let loader = try stageRun.loader(from: 0, threads: 1)
    onEveryThread(of: stageRun) { callocations_watch(true) }
    defer { onEveryThread(of: stageRun) { callocations_watch(false) } }
    var total = 0
    var sizes: Set<Int> = []
    for step in 0..<stageRun.plan.totalSteps {
      if step == 8 { _ = try stageRun.extractor.features(of: data, Array(0..<9)) }
      let isCounted = step >= stageRun.stage.data.ahead
      if isCounted { callocations_begin() }
      let batch = try loader.next()
      let input = stageRun.input(batch)
      let outcome = stageRun.gradients(input)
      let gradientNorm = stageRun.gradientNorm
      if step == 9 { inside(stageRun) }
      loader.release(batch)
      stageRun.update(step: step)
      if isCounted {
        let count = Int(callocations_end())
        if count > expected { callocations_print() }
        total += count
      }
      sizes.insert(input.count)
      #expect(outcome.loss.isFinite && gradientNorm > 0)
    }
    #expect(sizes == [4, 12])
    return total
  }

  @Test(arguments: cases) func stepsAllocateNothing(_ test: Case) throws {
    #expect(try allocations(test) == 0)
  }

  /// A step with heads on features, on a map and on a head, taps in between, and parts that do not train.
  @Test func tapsAndHeadsAllocateNothing() {
    let linear = Head.Layer(8, bias: true)
    let network = Network(
      .resnet(.init(.resnet18, width: 0.25, stem: .small)),
      heads: [
        HeadPlan(.head, [Head.Layer(16, bias: false, .scaleAndShift, relu: true), linear]),
        HeadPlan("dense", from: .tap(.map("layer2")), [Head.Layer(8, bias: false, .scale, kernel: 3), linear]),
        HeadPlan("classifier", from: .tap(.head(layers: 1)), [linear], numbered: false),
      ], rules: [Rule("encoder.layer1", trains: false)])
    let context = Context()
    defer { withExtendedLifetime(context) {} }
    let trained = Trained("toy", network, context)
    trained.state.initialise(seed: 1)
    let taps: [Network.Tap] = [.head(), .head("dense"), .head("classifier"), .map("layer3")]
    callocations_watch(true)
    defer { callocations_watch(false) }
    for step in 0..<4 {
      if step == 2 { callocations_begin() }
      context.scratch { arena in
        let x = arena.tensor(n: 4, h: 16, w: 16, c: 3)
        for i in x.buffer.indices { x.buffer[i] = Float(i % 7) }
        let pass = trained.pass(context, BatchGroups(images: 4, in: arena))
        let tape = network.forward(x, to: taps, pass)
        for tap in taps {
          let d = arena.tensor(like: tape[tap])
          for i in d.buffer.indices { d.buffer[i] = Float(i % 5) }
          tape.set(d, at: tap)
        }
        network.backward(tape, pass)
        trained.reducer.finish()
      }
    }
    let count = Int(callocations_end())
    if count > 0 { callocations_print() }
    #expect(count == 0)
  }

  /// Control: a single allocation is detected on every thread.
  @Test(arguments: [1, 2]) func oneIsNoticed(threads: Int) throws {
    let found = try allocations(Case(method: Self.simclr, threads: threads), expected: threads) { stageRun in
      self.onEveryThread(of: stageRun) { free(callocations_one()) }
    }
    #expect(found == threads)
  }
}
