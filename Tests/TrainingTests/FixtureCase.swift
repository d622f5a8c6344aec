import Engine
import Foundation
import Shards
import Training

/// A training run that PyTorch computed, read from its file. `Fixtures/README.md` is the convention.
struct FixtureCase {
  struct Encoder: Decodable {
    var name: String, width: Double, stem: String, channels: Int
    var variant: String?, selectiveKernels: Double?
  }
  /// Keys of the method's that are not among its options.
  struct Method: Decodable { var images: Int?, classes: Int? }
  /// The network of a teacher: another encoder, and a classifier of its own.
  struct Teacher: Decodable { var encoder: Encoder }
  struct Optimizer: Decodable {
    var name: String, rate: Double, momentum: Double, nesterov: Bool, decay: Double, exclude: Bool, rateInside: Bool
    var trust: Double?, norms: String?
    var beta1: Double?, beta2: Double?, epsilon: Double?, decoupled: Bool?
  }
  struct Rates: Decodable {
    var name: String, warmup: Int, steps: Int, start: Double?, warmupEnds: Schedule.WarmupEnd?
  }
  struct Recipe: Decodable {
    var encoder: Encoder
    var method: Method?, teacher: Teacher?, batchNorm: BatchNormRecipe?, optimizer: Optimizer?, schedule: Rates?
    var parameters: [ParameterRule]?
  }
  /// What is taken over from the stage before.
  struct Start: Decodable { var carry: [String] }
  struct Header: Decodable {
    var kind: String, recipe: Recipe, batch: Int, size: Int
    var steps: Int?, rates: [Double]?
    /// Number and size of the views, by kind.
    var views: [[Int]]?
    var bounds: [String: Double]?
    var start: Start?
  }

  let header: Header
  let file: Safetensors
  let path: String
  /// The case as its file has it.
  private let options: [String: Any]
  /// Of the names of what is given.
  let prefix: String

  init(_ path: String) throws {
    let file = try Safetensors.read(path)
    guard let text = file.metadata["case"] else { throw RunError("\(path) has no metadata `case`") }
    let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any] ?? [:]
    guard object["format"] as? Int == 1 else { throw RunError("\(path) has format \(object["format"] ?? "none")") }
    try self.init(path, file, object, prefix: "")
  }

  private init(_ path: String, _ file: Safetensors, _ options: [String: Any], prefix: String) throws {
    self.path = path
    self.file = file
    self.options = options
    self.prefix = prefix
    header = try JSONDecoder().decode(Header.self, from: JSONSerialization.data(withJSONObject: options))
  }

  /// The stage before this one, whose encoder it starts from; nil where it starts from what is given.
  var before: FixtureCase? {
    get throws {
      guard let options = options["before"] as? [String: Any] else { return nil }
      return try FixtureCase(path, file, options, prefix: "before.")
    }
  }

  /// The method, decoded like a recipe's.
  var method: any MethodRecipe {
    get throws {
      var method = (options["recipe"] as? [String: Any])?["method"] as? [String: Any] ?? [:]
      method["images"] = nil
      method["classes"] = nil
      if header.recipe.teacher != nil { method["teacher"] = "previous" }
      return try JSONDecoder().decode(AnyMethodRecipe.self, from: JSONSerialization.data(withJSONObject: method)).value
    }
  }

  /// The teacher's network, with its weights; nil where there is none.
  var teacher: Training.Teacher? {
    get throws {
      guard let its = header.recipe.teacher else { return nil }
      // A recipe of its own method: the classifier stands where the method's stands.
      let recipe = options["recipe"] as? [String: Any] ?? [:]
      let given = recipe["teacher"] as? [String: Any] ?? [:]
      let method: [String: Any] = ["name": "supervised", "classifier": given["classifier"] ?? [:]]
      let supervised = try JSONDecoder().decode(
        AnyMethodRecipe.self, from: JSONSerialization.data(withJSONObject: method)
      ).value
      let options = try Self.encoder(its.encoder, path)
      let classes = header.recipe.method?.classes ?? 0
      let network = Network(options, heads: supervised.heads(features: options.features, classes: classes))
      let input = EncoderInput(size: header.size, mean: [0], deviation: [1])
      let teacher = Training.Teacher(network, input: input, classScores: supervised.classScores)
      try fill(teacher.state, "teacher.")
      return teacher
    }
  }

  /// Sets a network's weights to what the file gives. What a stage takes over is not given.
  func fill(_ state: NetworkState, _ network: String = "") throws {
    for slab in [state.parameters, state.statistics] {
      for entry in slab.layout.entries {
        let name = prefix + network + entry.name
        let isTaken = header.start?.carry.contains { PartName(rawValue: $0).covers(entry.name) } ?? false
        if isTaken, !file.contains(name) { continue }
        guard try file.shape(name) == Weights.exchangedShape(entry.shape) else {
          throw RunError("\(path): \(name) has shape \(try file.shape(name)), here \(entry.shape)")
        }
        Weights.imported(try file.floats(name), entry.shape, into: slab[entry.slice])
      }
    }
  }

  static let all: [String] = {
    let folder = Bundle.module.resourceURL!.appendingPathComponent("Fixtures").path
    return ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter {
      $0.hasSuffix(".safetensors")
    }.sorted()
      .map { folder + "/" + $0 }
  }()

  var encoder: ImageEncoder.Options { get throws { try Self.encoder(header.recipe.encoder, path) } }

  private static func encoder(_ encoder: Encoder, _ path: String) throws -> ImageEncoder.Options {
    guard
      let depth = ResNet.Depth(rawValue: encoder.name), let stem = ResNet.Stem(rawValue: encoder.stem),
      let variant = ResNet.Variant(rawValue: encoder.variant ?? "b")
    else { throw RunError("\(path): encoder \(encoder)") }
    return .resnet(
      ResNet.Options(
        depth, width: encoder.width, stem: stem, variant: variant, selectiveKernels: encoder.selectiveKernels ?? 0,
        channels: encoder.channels))
  }

  /// Images of the file, (N, C, H, W), as (N, H, W, C).
  func images(_ name: String, size: Int? = nil) throws -> [Float] {
    let shape = try file.shape(prefix + name)
    let planar = try file.floats(prefix + name)
    let size = size ?? header.size
    guard shape == [header.batch, header.recipe.encoder.channels, size, size] else {
      throw RunError("\(path): \(name) has shape \(shape)")
    }
    let n = shape[0]
    let c = shape[1]
    let area = shape[2] * shape[3]
    var out = planar
    for i in 0..<n {
      for j in 0..<c { for p in 0..<area { out[(i * area + p) * c + j] = planar[(i * c + j) * area + p] } }
    }
    return out
  }

  // MARK: Comparing

  /// Results by their names in `bounds`, in the exchanged layout.
  typealias Outcome = [String: (shape: [Int], values: [Double])]

  static func outcome(_ slab: ParameterSlab, _ prefix: String, into all: inout Outcome) {
    for entry in slab.layout.entries {
      all[prefix + entry.name] = (
        Weights.exchangedShape(entry.shape), Weights.exported(slab[entry.slice], entry.shape).map(Double.init)
      )
    }
  }

  /// - Returns: a line for each tensor that exceeds its bound, is missing, or has another shape.
  func failures(_ outcome: Outcome) throws -> [String] {
    let bounds = header.bounds ?? [:]
    return try bounds.keys.sorted().compactMap { name in
      let bound = bounds[name]!
      let isKeyed = name.hasSuffix("@keyed")
      let bare = isKeyed ? String(name.dropLast("@keyed".count)) : name
      guard let ours = outcome[bare] else { return "\(name) did not come out" }
      let expected = try file.doubles("expect." + name)
      let shape = try file.shape("expect." + name)
      let values = isKeyed ? Self.projections(ours.values, count: expected.count - 1) : ours.values
      let found = isKeyed ? [values.count] : ours.shape
      guard found == shape, values.count == expected.count else {
        return "\(name) has shape \(found), expected \(shape)"
      }
      let worst = zip(values, expected).map { abs($0 - $1) }.max() ?? 0
      return worst <= bound ? nil : "\(name) is off by \(worst), allowed \(bound)"
    }
  }

  /// The norm, then Σ x_i cos(0.7 i + 0.3 j).
  static func projections(_ x: [Double], count: Int) -> [Double] {
    var all = [x.reduce(0) { $0 + $1 * $1 }.squareRoot()]
    for j in 1...max(1, count) where j <= count {
      var sum = 0.0
      for i in x.indices {
        let angle: Double = 0.7 * Double(i) + 0.3 * Double(j)
        sum += x[i] * cos(angle)
      }
      all.append(sum)
    }
    return all
  }
}
