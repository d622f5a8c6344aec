import Engine
import Foundation
import Ranks
import Shards
import TestSupport
import Testing
import Training

/// Whole runs with stages that learn from labels: pre-training, fine-tuning from a layer of its head, distillation.
@Suite struct LabelRunTests {
  private static let view =
    "[{count: 1, size: 8, operations: [{crop: {scale: [0.3, 1]}}, {flip: 0.5}, {normalise: dataset}]}]"

  static let stages = """
    monitor: {every: 1 steps, train: 20, test: 20}
    stages:
    - {name: first}
    - name: fine
      method: {name: supervised, smoothing: 0.1, classifier: {layers: [{width: features}], deviation: 0.3}}
      views: \(view)
      start: {carry: [encoder, head.0]}
      parameters: [{part: classifier, rate: 3}, {part: encoder.conv1, trains: false}]
      data: {labels: 80%, validation: 25%}
      length: 5 steps
    - name: student
      method: {name: distil, teacher: stage fine, alpha: 0.5, temperature: 2, squared: true}
      views: \(view)
      start: {from: nothing}
      data: {labels: 50%}
      length: 4 steps
    """

  /// A run's folder with held-out images.
  private func noise() throws -> NoiseRun {
    let tiny = try NoiseRun()
    try tiny.write("test", images: 20, seed: 8)
    return tiny
  }

  private func request(
    _ tiny: NoiseRun, _ stages: String = LabelRunTests.stages, _ changes: [String] = []
  ) throws -> PretrainRequest {
    var request = try tiny.request(stages, changes)
    request.heldOut["data"] = tiny.path + "/test"
    return request
  }

  /// One stage of a method, as an override of what `NoiseRun` trains.
  private func alone(_ method: String, _ more: String = "") -> String {
    "stages: [{name: only, method: \(method), views: \(Self.view)\(more)}]"
  }

  private func accuracies(_ tiny: NoiseRun, _ key: String) throws -> [Int: Double] {
    try tiny.metrics().reduce(into: [:]) { if let value = $1[key] { $0[$1.step] = value } }
  }

  // MARK: The best checkpoint

  /// The best checkpoint by validation stays, of equal ones the earliest, beside the newest. A stage came to it.
  @Test func theBestCheckpointIsKeptAndChosen() throws {
    let tiny = try noise()
    #expect(try tiny.train(request(tiny)) == .complete)
    let found = try accuracies(tiny, "validation_accuracy")
    #expect(found.keys.sorted() == [5, 6, 7, 8, 9], "\(found)")
    let best = try #require(found.keys.sorted().max { (found[$0]!, $1) < (found[$1]!, $0) })
    #expect(try FrozenEncoder(run: tiny.run.path, .stage("fine")).step == best)
    let kept = try Checkpoint.list(tiny.run)
    #expect(kept.contains(4) && kept.contains(best) && kept.contains(9) && kept.last == 13)
    #expect(kept.filter { (5...9).contains($0) }.count == Set([best, 9]).count, "\(kept)")
    // The student has nothing to choose by: it came to its end.
    #expect(try FrozenEncoder(run: tiny.run.path).step == 13)
    #expect(try accuracies(tiny, "test_accuracy").count == 9)
    let asked = tiny.said.filter { $0.contains("asks the network of stage fine") }
    #expect(asked.count == 1)
    let records = try RunFiles.classifiers(of: tiny.run.path)
    #expect(records.map(\.subject.stageName) == ["fine", "student"] && records.map(\.subject.step) == [best, 13])
    for record in records {
      #expect(record.confusion.joined().reduce(0, +) == 20 && record.classNames == ["a", "b"])
      #expect(record.confusion.indices.reduce(0) { $0 + record.confusion[$1][$1] } == record.accuracy.hits)
    }
    #expect(try #require(tiny.text("report.html")).contains("Worst mistakes"))
  }

  /// What a stage came to is what the next starts from and learns from, not its last step.
  @Test func theNextStageTakesTheBest() throws {
    let tiny = try noise()
    // The rate makes the classifier worse after a good beginning, so that the best is not the last.
    let stages = Self.stages.replacing("from: nothing", with: "from: stage fine").replacing(
      "length: 4 steps", with: "length: 1 steps")
    for seed in 1...6 {
      try? FileManager.default.removeItem(atPath: tiny.run.path)
      try tiny.train(request(tiny, stages, ["seed=\(seed)"]))
      let best = try FrozenEncoder(run: tiny.run.path, .stage("fine")).step
      if best == 9 { continue }
      let source = Checkpoint.name(step: best)
      #expect(tiny.said.contains { $0.contains("Stage student starts with encoder of") && $0.hasSuffix(source) })
      let manifest = try #require(Checkpoint.newest(tiny.run).manifest)
      let checksum = try FrozenEncoder(run: tiny.run.path, .step(best)).state.checksum
      #expect(manifest.teachers == [checksum])
      #expect(try manifest.teachers != [FrozenEncoder(run: tiny.run.path, .step(9)).state.checksum])
      return
    }
    Issue.record("in six runs the last checkpoint was the best: nothing was shown")
  }

  /// A damaged best checkpoint is passed over for the newest, and told; the run itself goes on.
  @Test func aDamagedBestIsPassedOver() throws {
    let tiny = try noise()
    let stages = alone("{name: supervised}", ", data: {validation: 25%}, length: 6 steps")
    for seed in 1...9 {
      try? FileManager.default.removeItem(atPath: tiny.run.path)
      try tiny.train(request(tiny, stages, ["seed=\(seed)"]))
      let best = try FrozenEncoder(run: tiny.run.path).step
      if best == 6 { continue }
      let file = tiny.run.checkpoints + "/" + Checkpoint.name(step: best) + "/state.h5"
      try Data("damaged".utf8).write(to: URL(fileURLWithPath: file))
      let encoder = try FrozenEncoder(run: tiny.run.path)
      #expect(encoder.step == 6)
      #expect(encoder.notices.count == 1 && encoder.notices[0].contains("it was the best by validation, taken is the"))
      let longer = stages.replacing("length: 6 steps", with: "length: 7 steps")
      #expect(try tiny.train(request(tiny, longer, ["seed=\(seed)"])) == .complete)
      return
    }
    Issue.record("in nine runs the last checkpoint was the best: nothing was shown")
  }

  // MARK: The promises

  /// A run that is stopped after any step, between stages too, ends with the same bits, the same best checkpoints, and
  /// the same verdicts.
  @Test func aRunThatIsStoppedAnywhereEndsTheSame() throws {
    let whole = try noise()
    try whole.train(request(whole))
    let steps = try Checkpoint.list(whole.run)
    let metrics = try whole.metrics()
    let records = try RunFiles.classifiers(of: whole.run.path)
    for stop in 1...12 {
      let tiny = try noise()
      #expect(try tiny.train(request(tiny), stopAfter: stop) == .stopped)
      #expect(try tiny.train(request(tiny)) == .complete, "\(stop)")
      #expect(!tiny.said.contains { $0.contains("jump") }, "\(stop)")
      #expect(try Checkpoint.list(tiny.run) == steps, "\(stop)")
      for step in steps { #expect(try tiny.arrays(step) == whole.arrays(step), "\(stop), \(step)") }
      #expect(try tiny.metrics() == metrics, "\(stop)")
      let found = try RunFiles.classifiers(of: tiny.run.path)
      #expect(found.map(\.subject.step) == records.map(\.subject.step), "\(stop)")
      #expect(found.map(\.confusion) == records.map(\.confusion), "\(stop)")
      for name in ["fine", "fine-validation", "student"] {
        #expect(tiny.text("labels/\(name).txt") != nil)
        #expect(tiny.text("labels/\(name).txt") == whole.text("labels/\(name).txt"), "\(name)")
      }
    }
  }

  /// A run that lost its last checkpoints goes on from an earlier one to the same end.
  @Test func lostCheckpointsDoNotChangeTheBest() throws {
    let whole = try noise()
    try whole.train(request(whole))
    let steps = try Checkpoint.list(whole.run)
    let tiny = try noise()
    #expect(try tiny.train(request(tiny), stopAfter: 8) == .stopped)
    let last = try #require(Checkpoint.list(tiny.run).last)
    try Data("{".utf8).write(
      to: URL(fileURLWithPath: tiny.run.checkpoints + "/" + Checkpoint.name(step: last) + "/manifest.json"))
    #expect(try tiny.train(request(tiny)) == .complete)
    for step in [4, 9, 13] { #expect(try tiny.arrays(step) == whole.arrays(step), "\(step)") }
    #expect(try Checkpoint.list(tiny.run) == steps)
  }

  /// All stages on several ranks choose the same best checkpoint and come to the same weights, within rounding.
  @Test(arguments: [2, 3, 4]) func ranksDoNotMatter(ranks: Int) throws {
    let one = try noise()
    try one.train(request(one, Self.stages, ["optimizer.rate=0.05"]))
    let tiny = try noise()
    let asked = try request(tiny, Self.stages, ["optimizer.rate=0.05"])
    _ = try Ranks.run(ranks) { communicator in
      try Trainer(asked, Context(communicator: communicator), isAskedToStop: { false }, say: { _ in }).run()
    }
    #expect(tiny.run.isComplete)
    #expect(try Checkpoint.list(tiny.run) == Checkpoint.list(one.run))
    for stage in ["first", "fine", "student"] {
      let found = try FrozenEncoder(run: tiny.run.path, .stage(stage))
      let expected = try FrozenEncoder(run: one.run.path, .stage(stage))
      #expect(found.step == expected.step)
      let a = Array(found.state.parameters.buffer)
      let b = Array(expected.state.parameters.buffer)
      let difference = zip(a, b).map { $0 - $1 }
      #expect(norm(difference, difference.count) < 1e-3 * norm(b, b.count), "\(stage)")
    }
    // An image whose scores are nearly alike may fall on the other side.
    for (key, images) in [("validation_accuracy", 8.0), ("test_accuracy", 20)] {
      let found = try accuracies(tiny, key)
      let expected = try accuracies(one, key)
      #expect(found.keys == expected.keys)
      for (step, value) in expected { #expect(abs(found[step]! - value) < 1.5 / images, "\(key), step \(step)") }
    }
  }

  // MARK: Labels of a run

  /// The labels that a stage saw are written down, and another run can be given them.
  @Test func writtenLabelsAreAChoice() throws {
    let tiny = try noise()
    let method = "{name: supervised}"
    try tiny.train(request(tiny, alone(method, ", data: {labels: 60%, validation: 25%}")))
    let manifest = try #require(Checkpoint.newest(tiny.run).manifest)
    let lists = ["only", "only-validation"].map { tiny.text("labels/\($0).txt") ?? "" }
    #expect(lists.map { $0.split(separator: "\n").count } == [18, 6])
    let arrays = try tiny.arrays(manifest.step)
    // The same images without validation are another selection by its checksum, but the same training.
    let source = tiny.path + "/source"
    try FileManager.default.moveItem(atPath: tiny.run.path, toPath: source)
    try tiny.train(request(tiny, alone(method, ", data: {labels: \(source)/labels/only.txt}")))
    #expect(try tiny.arrays(#require(Checkpoint.newest(tiny.run).manifest).step) == arrays)
    // Where all labels are seen there is nothing to write.
    try FileManager.default.removeItem(atPath: tiny.run.path)
    try tiny.train(request(tiny, alone(method)))
    #expect(!FileManager.default.fileExists(atPath: tiny.run.labels))
  }

  /// A run does not go on with other labels than it began with.
  @Test func otherLabelsAreRefused() throws {
    let tiny = try noise()
    let list = tiny.path + "/list.txt"
    let keys = (0..<30).map { "\($0)" }
    try keys.joined(separator: "\n").write(toFile: list, atomically: false, encoding: .utf8)
    let stages = alone("{name: supervised}", ", data: {labels: \(list)}, length: 6 steps")
    #expect(try tiny.train(request(tiny, stages), stopAfter: 3) == .stopped)
    try (keys.dropLast() + ["35"]).joined(separator: "\n").write(toFile: list, atomically: false, encoding: .utf8)
    let before = try tiny.metrics()
    let refusal = try #require(tiny.refusal(request(tiny, stages)))
    #expect(refusal.contains("was trained with the labels of other images than data.labels chooses now"), "\(refusal)")
    #expect(refusal.contains("--force") && refusal.contains(tiny.run.labels))
    #expect(try tiny.metrics() == before && !tiny.run.isComplete)
    var forced = try request(tiny, stages)
    forced.force = true
    #expect(try tiny.train(forced) == .complete)
  }

  // MARK: Refusals

  private func refusal(_ tiny: NoiseRun, _ stages: String, data: [String: String]? = nil) throws -> String {
    var asked = try tiny.request(stages, data: data)
    if data == nil { asked.heldOut["data"] = tiny.path + "/test" }
    let text = tiny.refusal(asked) ?? "not refused"
    #expect(!FileManager.default.fileExists(atPath: tiny.run.path), "\(text)")
    return text
  }

  @Test(arguments: [
    ("{name: supervised}", ", data: {labels: 41}", "labels is 41, but"),
    ("{name: supervised}", ", data: {labels: nowhere.txt}", "labels is `nowhere.txt`, which is no file"),
    ("{name: supervised}", ", data: {labels: 12, validation: 11}", "so at most 10"),
    ("{name: supervised}", ", data: {labels: 10}", "batch is 12, but"),
    ("{name: supervised, classWeights: [1, 2, 3]}", "", "classWeights has 3 weights, the data have 2 classes"),
    (
      "{name: distil, teacher: previous}", ", data: {labels: 50%}",
      "distil learns without labels: leave it out, or learn from labels as well by method.alpha below 1"
    ),
    ("{name: distil, teacher: previous}", ", data: {validation: 5}", "data.validation is given, but distil learns"),
    ("{name: distil, teacher: run nowhere}", "", "there is no checkpoint in nowhere"),
  ]) func whatCannotWorkIsRefused(_ method: String, _ more: String, _ words: String) throws {
    let tiny = try noise()
    let text = try refusal(
      tiny,
      alone(method, more).replacing(
        "stages: [", with: "stages: [{name: before, method: {name: supervised}, views: \(Self.view)}, "))
    #expect(text.contains(words), "\(text)")
  }

  @Test(arguments: [
    ("{name: supervised, smoothing: 1}", "`smoothing` is 1.0; it must be in [0, 1)"),
    ("{name: supervised, classWeights: balenced}", "did you mean `balanced`?"),
    ("{name: supervised, classWeights: [0, 0]}", "must be 0 or more, and one above 0"),
    ("{name: supervised, classifier: {layer: []}}", "a classifier has no `layer`; did you mean `layers`?"),
    ("{name: supervised, classifier: {layers: [{widht: 3}]}}", "a layer of a head has no `widht`"),
    ("{name: supervised, classifier: {deviation: -1}}", "`deviation` is -1.0; it must be 0 or more"),
    ("{name: supervised, classifier: {deviation: trch}}", "did you mean `torch`?"),
    ("{name: distil}", "teacher"),
    ("{name: distil, teacher: previous, temperature: 0}", "`temperature` is 0.0; it must be above 0"),
    ("{name: distil, teacher: previous, alpha: 0}", "`alpha` is 0.0; it must be above 0 and up to 1"),
    ("{name: distil, teacher: someone}", "it can be `nothing`, `previous`"),
    ("{name: supervised}, batchNorm: {shuffle: 6}", "supervised has no keys"),
    ("{name: distil, teacher: previous}, batchNorm: {shuffle: 6}", "distil has no keys"),
    ("{name: supervised}, accumulate: 2", "supervised's batch is one BN group"),
  ]) func optionsAreChecked(_ method: String, _ words: String) throws {
    let error = #expect(throws: RecipeError.self) { try Recipe(yaml: NoiseRun.tiny + alone(method), from: "test") }
    #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
  }

  /// A classifier begins at zero, by a deviation, or as PyTorch's; the resolved text says the same.
  @Test(arguments: ["0", "0.01", "torch"]) func classifiersBegin(_ deviation: String) throws {
    let tiny = try noise()
    let method = "{name: supervised, classifier: {layers: [{width: features}, {width: 7}], deviation: \(deviation)}}"
    let request = try request(tiny, alone(method))
    #expect(try Recipe(yaml: request.recipe.yaml, from: "resolved").yaml == request.recipe.yaml)
    let context = Context()
    let stageRun = try Plan(request, context).make(0, context)
    stageRun.method.initialise()
    let parameters = stageRun.method.encoder.state.parameters
    let slice = try #require(parameters.layout.entry("classifier.weight")).slice
    let size = norm(parameters[slice], slice.count) / Double(slice.count).squareRoot()
    let expected = deviation == "torch" ? 1 / (3 * 7.0).squareRoot() : Double(deviation)!
    #expect(slice.count == 14 && abs(size - expected) <= 0.6 * expected, "\(size)")
    let largest = UnsafeBufferPointer(start: parameters[slice], count: slice.count).map(abs).max()!
    if deviation == "torch" { #expect(largest <= Float(1 / 7.0.squareRoot())) }
  }

  /// Two views are one too many.
  @Test func oneViewIsAskedFor() throws {
    let error = #expect(throws: RecipeError.self) {
      try Recipe(yaml: NoiseRun.tiny + "stages: [{method: {name: supervised}}]", from: "test")
    }
    #expect(error?.description.contains("views have counts [2]; it takes one view of an image") == true)
  }

  @Test func labelsGivenToPreTrainingAreRefused() throws {
    let tiny = try noise()
    #expect(
      try refusal(tiny, "data: {labels: 50%}").contains(
        "data.labels is given, but simclr learns without labels: leave it out"))
    #expect(
      try refusal(tiny, "data: {validation: 5}").contains("data.validation is given, but simclr learns without"))
  }

  /// Data without labels cannot be learned from, nor held-out images of classes that training lacks.
  @Test func dataWithoutTheClassesAreRefused() throws {
    let tiny = try NoiseRun()
    let labelled = try TinyRun()
    try labelled.pack("bare", count: 40, labelled: false)
    try labelled.pack("known", count: 40, classes: ["a", "b", "c"])
    try labelled.pack("more", count: 40, classes: ["a", "b", "c", "d"])
    try labelled.pack("one", count: 40, classes: ["a"])
    func text(_ data: String, test: String? = nil) throws -> String {
      var asked = try tiny.request(alone("{name: supervised}"), data: ["data": labelled.folder + "/" + data])
      if let test { asked.heldOut["data"] = labelled.folder + "/" + test }
      return tiny.refusal(asked) ?? "not refused"
    }
    #expect(try text("bare").contains("bare has no labelled image: pack a folder with a subfolder for each class"))
    #expect(try text("one").contains("supervised: the data have 1 class; there is nothing to tell apart"))
    let unknown = try text("known", test: "more")
    #expect(unknown.contains("more has images of the classes `d`, which") && unknown.contains("`a`, `b`, `c`"))
    #expect(!FileManager.default.fileExists(atPath: tiny.run.path))
    // Held-out images of fewer classes are fine.
    #expect(try text("more", test: "known") == "not refused")
  }

  /// Labels of one class alone teach nothing; classes without any are told.
  @Test func labelsThatLeaveClassesOutAreTold() throws {
    let tiny = try noise()
    let list = tiny.path + "/list.txt"
    func write(_ keys: [Int]) throws {
      try keys.map(String.init).joined(separator: "\n").write(toFile: list, atomically: false, encoding: .utf8)
    }
    try write((0..<20).map { 2 * $0 })
    let only = alone("{name: supervised}", ", data: {labels: \(list)}")
    #expect(try refusal(tiny, only).contains("the labels that may be seen are of one class alone"))
    try tiny.write("three", images: 40, classNames: ["a", "b", "c"], seed: 5)
    try write(Array(0..<20))
    try tiny.train(tiny.request(only, data: ["data": tiny.path + "/three"]))
    #expect(tiny.said.contains { $0.contains("no image with a label of the classes `c`: they cannot be learned") })
  }

  /// A classifier is not taken over for other classes, from a stage or from a run.
  @Test func aClassifierOfOtherClassesIsRefused() throws {
    let tiny = try noise()
    try tiny.write("others", images: 40, classNames: ["a", "c"], seed: 5)
    let supervised = "method: {name: supervised}, views: \(Self.view)"
    let carry = "carry: [encoder, classifier]"
    let data = ["data": tiny.path + "/data", "others": tiny.path + "/others"]
    let second = "{name: second, \(supervised), data: {set: others}, start: {\(carry)}}"
    let text = try refusal(tiny, "stages: [{name: first, \(supervised)}, \(second)]", data: data)
    #expect(text.contains("stage first tells the classes `a`, `b`, and") && text.contains("has `a`, `c`"), "\(text)")
    try tiny.train(request(tiny, alone("{name: supervised}")))
    let source = tiny.path + "/source"
    try FileManager.default.moveItem(atPath: tiny.run.path, toPath: source)
    let from = ", data: {set: others}, start: {from: run \(source), \(carry)}"
    let only = try refusal(tiny, alone("{name: supervised}", from), data: ["others": tiny.path + "/others"])
    #expect(only.contains("run \(source) tells the classes `a`, `b`, and"), "\(only)")
  }

  /// The kept layers must be those of the head that is carried.
  @Test func headLayersThatDoNotFitAreRefused() throws {
    let tiny = try noise()
    for (layers, words) in [
      ("[{width: 5}]", "start: head.0.bn.bias has shape [5] here and has shape [32] in stage first"),
      ("[{width: features, bias: true}]", "start: head.0.bias has shape [32] here and is not in stage first"),
      ("[]", "start.carry: this stage's network has no part `head.0`"),
    ] {
      let stages = Self.stages.replacing("layers: [{width: features}]", with: "layers: \(layers)")
      let text = try refusal(tiny, stages)
      #expect(text.contains("stage fine: ") && text.contains(words), "\(text)")
    }
  }

  /// A teacher must tell the student's classes of the student's images.
  @Test func teachersThatDoNotFitAreRefused() throws {
    let tiny = try noise()
    let labelled = try TinyRun()
    try labelled.pack("three", count: 40)
    func distil(_ more: String = "") -> String {
      Self.stages.replacing("data: {labels: 50%}", with: "data: {labels: 50%\(more)}")
    }
    let both = ["data": tiny.path + "/data", "three": labelled.folder + "/three"]
    let classes = try refusal(tiny, distil(", set: three"), data: both)
    #expect(
      classes.contains("teacher stage fine tells the classes `a`, `b`, the data have `a`, `b`, `c`"), "\(classes)")
    let normalise = "{normalise: {mean: [0.2], deviation: [0.1]}}"
    let other = Self.stages.replacing(
      "squared: true}\n  views: \(Self.view)",
      with: "squared: true}\n  views: \(Self.view.replacing("{normalise: dataset}", with: normalise))")
    #expect(other != Self.stages)
    let numbers = try refusal(tiny, other)
    #expect(numbers.contains("teacher stage fine takes images of mean [0.5] and deviation [0.3]"), "\(numbers)")
    #expect(numbers.contains("give them normalise: {mean: [0.5], deviation: [0.3]}"))
    let blind = try refusal(tiny, Self.stages.replacing("teacher: stage fine", with: "teacher: stage first"))
    #expect(blind.contains("stage student: teacher stage first tells no classes: give a run or a stage"), "\(blind)")
  }
}
