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
  /// A key of the method's that is not among its options.
  struct Method: Decodable { var images: Int? }
  struct Optimizer: Decodable {
    var name: String, rate: Double, momentum: Double, nesterov: Bool, decay: Double, exclude: Bool, rateInside: Bool
    var trust: Double?, norms: String?
  }
  struct Rates: Decodable {
    var name: String, warmup: Int, steps: Int, start: Double?, warmupEnds: Schedule.WarmupEnd?
  }
  struct Recipe: Decodable {
    var encoder: Encoder
    var method: Method?, batchNorm: BatchNormRecipe?, optimizer: Optimizer?, schedule: Rates?
  }
  struct Header: Decodable {
    var format: Int, kind: String, recipe: Recipe, batch: Int, size: Int
    var steps: Int?, rates: [Double]?
    /// Number and size of the views, by kind.
    var views: [[Int]]?
    var bounds: [String: Double]
  }

  let header: Header
  let file: Safetensors
  let path: String

  init(_ path: String) throws {
    self.path = path
    file = try Safetensors.read(path)
    guard let text = file.metadata["case"] else { throw RunError("\(path) has no metadata `case`") }
    header = try JSONDecoder().decode(Header.self, from: Data(text.utf8))
    guard header.format == 1 else { throw RunError("\(path) has format \(header.format)") }
  }

  /// The method, decoded like a recipe's.
  var method: any MethodRecipe {
    get throws {
      let text = file.metadata["case"] ?? ""
      let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
      var options = (object?["recipe"] as? [String: Any])?["method"] as? [String: Any] ?? [:]
      options["images"] = nil
      return try JSONDecoder().decode(AnyMethodRecipe.self, from: JSONSerialization.data(withJSONObject: options)).value
    }
  }

  static let all: [String] = {
    let folder = Bundle.module.resourceURL!.appendingPathComponent("Fixtures").path
    return ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter {
      $0.hasSuffix(".safetensors")
    }.sorted()
      .map { folder + "/" + $0 }
  }()

  var encoder: ImageEncoder.Options {
    get throws {
      let encoder = header.recipe.encoder
      guard
        let depth = ResNet.Depth(rawValue: encoder.name), let stem = ResNet.Stem(rawValue: encoder.stem),
        let variant = ResNet.Variant(rawValue: encoder.variant ?? "b")
      else { throw RunError("\(path): encoder \(encoder)") }
      return .resnet(
        ResNet.Options(
          depth, width: encoder.width, stem: stem, variant: variant, selectiveKernels: encoder.selectiveKernels ?? 0,
          channels: encoder.channels))
    }
  }

  /// Images of the file, (N, C, H, W), as (N, H, W, C).
  func images(_ name: String, size: Int? = nil) throws -> [Float] {
    let shape = try file.shape(name)
    let planar = try file.floats(name)
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
    try header.bounds.keys.sorted().compactMap { name in
      let bound = header.bounds[name]!
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
