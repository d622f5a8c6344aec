import Engine
import Foundation
import Shards
import Testing
import Training

/// A run resumed from saved state computes the same bits. Controls show that leaving out any part of the state is
/// detected.
@Suite struct ResumeTests {
  private let images: GreyImages
  private var data: DataSet { images.data }

  init() throws { images = try .noise(count: 40, side: 10, classes: 3) }

  static let methods = [
    "simclr": "method: {name: simclr, temperature: 0.5, head: [features, 16], headDeviation: 0.1}\nbatchNorm: global",
    "adam": "method: {name: simclr, temperature: 0.5, head: [features, 16]}\nbatchNorm: global",
    "simclr v2": """
    method: {name: simclr, temperature: 0.5, head: [16], headDeviation: 0.1, memory: {queue: 50, momentum: 0.9}}
    batchNorm: {group: 6}
    """,
    "moco":
      "method: {name: moco, temperature: 0.2, head: [features, 16], queue: 50, momentum: 0.9}\nbatchNorm: {shuffle: 6}",
    "end-to-end": "method: {name: end-to-end, temperature: 0.2, head: [16]}\nbatchNorm: {shuffle: 6}",
    "byol": "method: {name: byol, head: [16, 8], predictor: [16, 8], momentum: 0.9}\nbatchNorm: global",
    "swav": """
    method: {name: swav, head: [16, 8], prototypes: 9, freeze: 1 steps, queue: 14, queueFrom: 0 steps}
    batchNorm: global
    """,
    "memory-bank":
      "method: {name: memory-bank, temperature: 0.2, head: [16], negatives: 20, momentum: 0.5}\nbatchNorm: global",
    "adco":
      "method: {name: adco, temperature: 0.2, bankTemperature: 0.1, head: [features, 16], negatives: 20, momentum: 0.9}"
      + "\nbatchNorm: {shuffle: 6}",
    "supervised": """
    method:
      {name: supervised, smoothing: 0.1, classWeights: balanced,
      classifier: {layers: [{width: features}], deviation: 0.1}}
    batchNorm: global
    """,
    "distil": """
    method: {name: distil, teacher: previous, temperature: 2, alpha: 0.5, classifier: {deviation: 0.1}}
    batchNorm: global
    """,
  ]

  /// Methods whose stages see an image once.
  private static let ofOneView: Set<String> = ["memory-bank", "supervised", "distil"]

  /// Methods that learn without labels.
  static var pretraining: [String] {
    methods.keys.sorted().filter { key in
      guard let stage = try? Recipe(yaml: recipe(key), from: "test").stages[0] else { return true }
      return stage.method.value.labels == .none
    }
  }

  static func recipe(_ method: String) -> String {
    """
    encoder: {name: resnet18, width: 0.0625, stem: small}
    views:
      - count: \(ofOneView.contains(method) ? 1 : 2)
        size: 8
        operations: [{crop: {scale: [0.3, 1]}}, {flip: 0.5}, {normalise: dataset}]
    optimizer: \(method == "adam" ? "{name: adam, rate: 0.01}" : "{name: sgd, rate: 0.5, momentum: 0.9, decay: 1.0e-4}")
    schedule: {name: cosine}
    batch: 12
    length: 6 steps
    \(Self.methods[method]!)
    """
  }

  private func stageRun(_ method: String) throws -> StageRun {
    let recipe = try Recipe(yaml: Self.recipe(method), from: "test")
    let stageRun = try StageRun(
      recipe.stages[0], data: data, heldOut: nil, seed: 1, index: 0,
      teachers: Teacher.drawn(for: recipe.stages[0], data),
      Context())
    stageRun.method.initialise()
    return stageRun
  }

  private func train(_ stageRun: StageRun, _ steps: Range<Int>) throws {
    let loader = try stageRun.loader(from: steps.lowerBound, threads: 1)
    for step in steps {
      let batch = try loader.next()
      _ = stageRun.gradients(stageRun.input(batch))
      loader.release(batch)
      stageRun.update(step: step)
    }
  }

  /// All state as bytes, by name.
  private func state(_ stageRun: StageRun) -> [String: [UInt8]] {
    Dictionary(uniqueKeysWithValues: stageRun.method.saved.map { ($0.name, Array($0.bytes)) })
  }

  /// Runs six steps, the last three in another `StageRun` with the saved state, except the arrays that `isLeftOut`.
  /// - Returns: names of the arrays that differ from six uninterrupted steps.
  private func differences(_ method: String, leavingOut isLeftOut: (String) -> Bool) throws -> Set<String> {
    let whole = try stageRun(method)
    let first = try stageRun(method)
    let second = try stageRun(method)
    try train(whole, 0..<6)
    try train(first, 0..<3)
    #expect(first.method.saved.map(\.name) == second.method.saved.map(\.name))
    for (from, to) in zip(first.method.saved, second.method.saved) where !isLeftOut(from.name) {
      to.bytes.copyMemory(from: UnsafeRawBufferPointer(from.bytes))
    }
    try train(second, 3..<6)
    let expected = state(whole)
    let found = state(second)
    #expect(Set(expected.keys) == Set(found.keys) && expected.count > 60)
    return Set(expected.keys.filter { expected[$0] != found[$0] })
  }

  @Test(arguments: methods.keys.sorted()) func allOfTheStateGivesTheSameBits(_ method: String) throws {
    let differing = try differences(method) { _ in false }
    #expect(differing.isEmpty, "\(differing.sorted())")
  }

  /// Every array changes in training; otherwise leaving it out would not be detected.
  @Test(arguments: methods.keys.sorted()) func everyArrayMoves(_ method: String) throws {
    let trained = try stageRun(method)
    let before = state(trained)
    try train(trained, 0..<3)
    let after = state(trained)
    let still = before.keys.filter { before[$0] == after[$0] }
    #expect(still.isEmpty, "\(still.sorted())")
  }

  /// BYOL's target adopts another encoder and keeps its own projector.
  @Test func aTargetKeepsItsProjector() throws {
    let stageRun = try stageRun("byol")
    let before = state(stageRun)
    stageRun.method.adoptEncoder()
    let after = state(stageRun)
    let target = after.keys.filter { $0.hasPrefix("target/parameters/") }
    #expect(target.contains { $0.contains("/head.") } && target.contains { $0.contains("/encoder.") })
    for name in target {
      let online = "online" + name.dropFirst("target".count)
      let isRight = after[name] == (name.contains("/encoder.") ? after[online] : before[name])
      #expect(isRight, "\(name)")
    }
    let isOwn = after["target/parameters/head.0.weight"] != after["online/parameters/head.0.weight"]
    #expect(isOwn)
  }

  /// - part: text in the names of the arrays to leave out.
  /// - changed: an array that must then differ.
  @Test(arguments: [
    ("adam", "/momentum/", "encoder/parameters/encoder.conv1.weight"),
    ("adam", "/square/", "encoder/parameters/encoder.conv1.weight"),
    ("simclr", "/momentum/", "encoder/parameters/encoder.conv1.weight"),
    ("simclr", "/statistics/", "encoder/statistics/encoder.bn1.running_mean"),
    ("simclr", "encoder/parameters/", "encoder/parameters/encoder.conv1.weight"),
    ("simclr v2", "queue/pointer", "encoder/parameters/encoder.conv1.weight"),
    ("simclr v2", "queue/keys", "encoder/parameters/encoder.conv1.weight"),
    ("simclr v2", "key/statistics/", "key/statistics/encoder.bn1.running_mean"),
    ("simclr v2", "key/parameters/", "encoder/parameters/encoder.conv1.weight"),
    ("moco", "/momentum/", "query/parameters/encoder.conv1.weight"),
    ("moco", "queue/pointer", "query/parameters/encoder.conv1.weight"),
    ("moco", "queue/keys", "query/parameters/encoder.conv1.weight"),
    ("moco", "query/statistics/", "query/statistics/encoder.bn1.running_mean"),
    ("moco", "key/statistics/", "key/statistics/encoder.bn1.running_mean"),
    ("moco", "key/parameters/", "query/parameters/encoder.conv1.weight"),
    ("end-to-end", "key/momentum/", "key/parameters/encoder.conv1.weight"),
    ("end-to-end", "key/parameters/", "query/parameters/encoder.conv1.weight"),
    ("byol", "target/parameters/", "online/parameters/encoder.conv1.weight"),
    ("byol", "target/statistics/", "target/statistics/encoder.bn1.running_mean"),
    ("swav", "queue/keys", "encoder/parameters/encoder.conv1.weight"),
    ("swav", "queue/pointer", "queue/keys"),
    ("swav", "queue/filled", "encoder/parameters/encoder.conv1.weight"),
    ("memory-bank", "bank/values", "encoder/parameters/encoder.conv1.weight"),
    ("memory-bank", "bank/z", "encoder/parameters/encoder.conv1.weight"),
    ("adco", "negatives/values", "query/parameters/encoder.conv1.weight"),
    ("adco", "negatives/velocity", "negatives/values"),
    ("adco", "negatives/filled", "negatives/values"),
    ("adco", "key/parameters/", "query/parameters/encoder.conv1.weight"),
    ("supervised", "/momentum/", "encoder/parameters/classifier.weight"),
    ("supervised", "/statistics/", "encoder/statistics/head.0.bn.running_mean"),
    ("supervised", "parameters/classifier", "encoder/parameters/encoder.conv1.weight"),
    ("supervised", "parameters/head", "encoder/parameters/classifier.weight"),
    ("distil", "/momentum/", "student/parameters/classifier.weight"),
    ("distil", "student/parameters/encoder", "student/parameters/classifier.weight"),
    ("distil", "/statistics/", "student/statistics/encoder.bn1.running_mean"),
  ]) func aPartThatIsLeftOutIsNoticed(_ method: String, _ part: String, _ changed: String) throws {
    var count = 0
    let differing = try differences(method) {
      let isLeftOut = $0.contains(part)
      if isLeftOut { count += 1 }
      return isLeftOut
    }
    #expect(count > 0, "no state is named \(part)")
    #expect(differing.contains(changed), "\(differing.sorted())")
  }
}
