import Engine
import Foundation
import Shards
import Testing
import Training

/// A student learns the features of a teacher, which another stage, run or file has. This file has all that a new
/// method needs.
private struct Student: MethodRecipe {
  static let name = "student"
  static let required = ["teacher"]
  var teacher = "nothing"
  var width = 32

  var teachers: [StageStart.Source] { [StageStart.Source(teacher) ?? .nothing] }

  func validate(_ stage: Stage, images: Int) throws(RecipeError) -> [String] { [] }

  func heads(features: Int, classes: Int) -> [HeadPlan] { [HeadPlan(.head, [Head.Layer(width, bias: true)])] }

  func make(_ setting: MethodSetting) -> any Method { Running(self, setting) }

  final class Running: Method {
    let trained: [Trained]
    private let setting: MethodSetting

    init(_ recipe: Student, _ setting: MethodSetting) {
      self.setting = setting
      trained = [setting.trained("student", recipe)]
    }

    func initialise() { encoder.state.initialise(seed: setting.seed) }

    func step(_ input: MethodInput) -> Outcome {
      let context = setting.context
      return context.scratch { arena in
        let images = input.views[0]
        let teacher = setting.teachers[0]
        let groups = BatchGroups(images: images.n, in: arena)
        let asked = Pass(context, teacher.state, .inference, groups)
        let z = teacher.network.forward(images, tap: .features, asked).output
        let pass = encoder.pass(context, groups)
        let tape = encoder.network.forward(images, pass)
        let p = tape.output
        let statistics = context.part(.loss) { CosineRegression().apply(p, targets: z, count: input.batch, context) }
        encoder.network.backward(p, tape, pass)
        return Outcome(loss: statistics.loss)
      }
    }
  }
}

/// The bytes of a network's parameters and statistics, by name.
func arrays(of state: NetworkState) -> [String: [UInt8]] {
  Dictionary(uniqueKeysWithValues: state.saved("x").map { ($0.name, Array($0.bytes)) })
}

@Suite struct TeacherTests {
  private static let stages = """
    stages:
    - {name: first}
    - {name: second, method: {name: student, teacher: stage first}, start: {from: nothing}, length: 6 steps}
    """

  private func with<T>(_ body: () throws -> T) throws -> T {
    try Methods.$all.withValue(Methods.all + [Student.self], operation: body)
  }

  private func student(_ teacher: String) -> String { "{method={name: student, teacher: \(teacher)}}" }

  /// The teacher is the encoder of the stage before; the student comes nearer to it, and the run can be evaluated.
  @Test func aStageTeachesTheNext() throws {
    try with {
      let tiny = try NoiseRun()
      let longer = Self.stages.replacing("6 steps", with: "40 steps")
      #expect(try tiny.train(tiny.request(longer)) == .complete)
      let losses = try tiny.metrics().filter { $0["stage"] == 1 }.compactMap { $0["loss"] }
      #expect(losses.count == 40 && losses.suffix(4).allSatisfy { $0 < 0.7 * losses[0] }, "\(losses)")
      #expect(tiny.said.contains("Stage second asks the network of stage first"))
      let encoder = try FrozenEncoder(run: tiny.run.path)
      #expect(encoder.sources.map(\.name) == ["student"] && encoder.step == 44)
      #expect(try !tiny.arrays(44).contains { $0.hasPrefix("teacher") })
    }
  }

  /// A run that is stopped anywhere asks the same teacher again and ends with the same bits.
  @Test func aRunIsResumedWithItsTeacher() throws {
    try with {
      let whole = try NoiseRun()
      try whole.train(whole.request(Self.stages))
      for stop in [3, 4, 5, 9] {
        let tiny = try NoiseRun()
        #expect(try tiny.train(tiny.request(Self.stages), stopAfter: stop) == .stopped)
        #expect(try tiny.train(tiny.request(Self.stages)) == .complete)
        for step in [4, 10] { #expect(try tiny.arrays(step) == whole.arrays(step), "\(stop), \(step)") }
        #expect(try tiny.metrics() == whole.metrics(), "\(stop)")
      }
    }
  }

  /// A teacher has the architecture of its own run, its head, and its bits; it may also come from an export.
  @Test func aRunOrAFileTeaches() throws {
    try with {
      let teacher = try NoiseRun()
      try teacher.train(teacher.request("", ["encoder.name=resnet34"]))
      let source = try FrozenEncoder(run: teacher.run.path)
      let file = teacher.path + "/teacher.safetensors"
      let metadata = [
        Weights.recipeKey: try source.recipe.yaml, Weights.stageKey: source.stage.name,
        Weights.inputKey: try source.input.json,
      ]
      try Weights.export(source.state, metadata: metadata, to: file)
      var losses: [[MetricsLine]] = []
      for (from, heads) in [("run \(teacher.run.path)", true), ("file \(file)", false)] {
        let tiny = try NoiseRun()
        let request = try tiny.request("", ["method={name: student, teacher: \(from)}"])
        let context = Context()
        let plan = try Plan(request, context)
        let stageRun = try plan.make(0, context)
        try stageRun.loadTeachers(plan.stages[0].teachers, context.communicator) { _ in "" }
        let loaded = stageRun.teachers[0]
        #expect(loaded.input == source.input && stageRun.memory.teachers == loaded.bytes)
        let found = arrays(of: loaded.state)
        for (name, values) in arrays(of: source.state) { #expect(found[name] == values, "\(name)") }
        #expect(loaded.network.parameters.entries.contains { $0.name.hasPrefix("head.") } == heads)
        try tiny.train(request)
        losses.append(try tiny.metrics())
        #expect(losses[0] == losses.last, "\(from)")
      }
    }
  }

  /// A run does not go on with another teacher than it began with.
  @Test func anotherTeacherIsRefused() throws {
    try with {
      let teacher = try NoiseRun()
      try teacher.train(teacher.request())
      let tiny = try NoiseRun()
      let changes = ["method={name: student, teacher: run \(teacher.run.path)}", "length=6 steps"]
      #expect(try tiny.train(tiny.request("", changes), stopAfter: 4) == .stopped)
      try teacher.train(teacher.request("", ["length=8 steps"]))
      let refusal = try #require(tiny.refusal(tiny.request("", changes)))
      #expect(refusal.contains("was trained with a teacher of other weights than run "), "\(refusal)")
      #expect(refusal.contains("--force") && !tiny.run.isComplete)
      var request = try tiny.request("", changes)
      request.force = true
      #expect(try tiny.train(request) == .complete)
    }
  }

  @Test(arguments: [
    ("nothing", "it can be `previous`, `stage NAME`"),
    ("previous", "teacher is `previous`, but this stage is the first"),
    ("stage frist", "no stage of that name comes before this one"),
    ("run nowhere", "there is no checkpoint in nowhere"),
    ("file nowhere", "nowhere"),
  ]) func whatCannotTeachIsRefused(_ teacher: String, words: String) throws {
    try with {
      let tiny = try NoiseRun()
      let request = try tiny.request("", ["method={name: student, teacher: \(teacher)}"])
      let refusal = try #require(tiny.refusal(request))
      #expect(refusal.contains(words), "\(refusal)")
    }
  }

  /// What a teacher takes must be what the data have.
  @Test func aTeacherOfOtherImagesIsRefused() throws {
    try with {
      let teacher = try NoiseRun()
      try teacher.train(teacher.request())
      let tiny = try NoiseRun()
      try tiny.write("colour", images: 40, channels: 3, seed: 4)
      let request = try tiny.request(
        "", ["method={name: student, teacher: run \(teacher.run.path)}"], data: ["data": tiny.path + "/colour"])
      let refusal = try #require(tiny.refusal(request))
      #expect(refusal.contains("takes images of 1 channels, those of"), "\(refusal)")
    }
  }
}
