import Foundation
import Randomness
import Shards
import Testing

/// A case made by `Scripts/fixtures/augmentation.py`: pixels, an operation, and torchvision's results.
struct AugmentationFixture: CustomTestStringConvertible, Sendable {
  struct Parameters: Decodable, Sendable {
    var operation: String
    var size: Int?, crop: [Int]?, margin: Double?, interpolation: Interpolation?
    var factor: Double?, threshold: Double?, sigma: Double?, taps: Int?, mean: [Double]?, deviation: [Double]?
  }
  struct Tensor: Sendable { var shape: [Int], bytes: Data }

  let name: String, parameters: Parameters
  private let tensors: [String: Tensor]
  var testDescription: String { name }

  static let all: [AugmentationFixture] = {
    let folder = Bundle.module.resourceURL!.appendingPathComponent("Fixtures/augmentation")
    let names = try! FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    return names.filter { $0.hasSuffix(".safetensors") }.map {
      try! AugmentationFixture(folder.appendingPathComponent($0))
    }
  }()

  init(_ file: URL) throws {
    struct Entry: Decodable { var dtype: String, shape: [Int], data_offsets: [Int] }
    name = file.deletingPathExtension().lastPathComponent
    let data = try Data(contentsOf: file)
    let length = Int(data.prefix(8).reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) })
    let header = try JSONSerialization.jsonObject(with: data[8..<8 + length]) as! [String: Any]
    let metadata = header["__metadata__"] as! [String: String]
    parameters = try JSONDecoder().decode(Parameters.self, from: Data(metadata["case"]!.utf8))
    tensors = try header.filter { $0.key != "__metadata__" }.mapValues {
      let entry = try JSONDecoder().decode(Entry.self, from: JSONSerialization.data(withJSONObject: $0))
      return Tensor(
        shape: entry.shape, bytes: Data(data[8 + length + entry.data_offsets[0]..<8 + length + entry.data_offsets[1]]))
    }
  }

  /// The pixels as a decoder delivers them.
  var input: Pixels {
    let tensor = tensors["input"]!
    var pixels = Pixels()
    pixels.height = tensor.shape[0]
    pixels.width = tensor.shape[1]
    pixels.channels = tensor.shape[2]
    pixels.depth = tensor.bytes.count / tensor.shape.reduce(1, *) * 8
    pixels.bytes = [UInt8](tensor.bytes)
    return pixels
  }

  /// A result of torchvision, in [0, 1], and its shape.
  func result(_ name: String) -> (shape: [Int], values: [Float])? {
    guard let tensor = tensors[name] else { return nil }
    if name == "pil" { return (tensor.shape, tensor.bytes.map { Float($0) / 255 }) }
    let values = tensor.bytes.withUnsafeBytes { bytes in
      (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
    }
    return (tensor.shape, values)
  }

  /// Our result and its shape.
  func made() -> (shape: [Int], values: [Float]) {
    let p = parameters
    let pixels = input
    let workspace = Workspace()
    let canvas = Canvas(size: p.size ?? pixels.width, channels: pixels.channels, in: workspace)
    switch p.operation {
    case "resize":
      let c = p.crop!
      canvas.fill(from: pixels, Frame(PixelRect(x: c[0], y: c[1], width: c[2], height: c[3])), p.interpolation!)
    case "centre":
      let centre = Centre(margin: p.margin!, interpolation: p.interpolation!)
      let key = ViewKey(seed: 0, epoch: 0, step: 0, sample: 0, view: 0)
      canvas.fill(
        from: pixels, centre.frame(width: pixels.width, height: pixels.height, size: p.size!, key), p.interpolation!)
    default: canvas.read(from: pixels.bytes.map { Float($0) / 255 })
    }
    let factor = Float(p.factor ?? 0)
    switch p.operation {
    case "resize", "centre": break
    case "brightness": Colour.brighten(canvas, factor)
    case "lighten": Colour.lighten(canvas, by: factor)
    case "contrast": Colour.contrast(canvas, factor)
    case "saturation": Colour.saturate(canvas, factor)
    case "hue": Colour.turn(canvas, factor)
    case "grey": Grey.grey(canvas)
    case "flip": Flip.flip(canvas)
    case "solarise": Solarise.solarise(canvas, threshold: Float(p.threshold!))
    case "blur": Blur.blur(canvas, sigma: p.sigma!, taps: p.taps!)
    case "normalise":
      Normalise.explicit(mean: p.mean!, deviation: p.deviation!).apply(
        to: canvas, ViewKey(seed: 0, epoch: 0, step: 0, sample: 0, view: 0))
    default: Issue.record("unknown operation \(p.operation)")
    }
    var out = [Float](repeating: .nan, count: canvas.area * canvas.channels)
    out.withUnsafeMutableBufferPointer { canvas.write(to: $0.baseAddress!) }
    return ([canvas.size, canvas.size, canvas.channels], out)
  }

  /// Bound of the rounding error in Float: roundings of one output, each at most u = 2⁻²⁴ of the largest value (1
  /// unless stated).
  var bound: Double {
    let p = parameters
    let u = 0x1p-24
    let side = Double(input.width)
    switch p.operation {
    case "resize", "centre":
      // Per pass a product and a sum for each tap, and the weight's own rounding; Σ|w| ≤ 1.3 for the cubic kernel.
      let stretch =
        p.operation == "centre"
        ? Double(min(input.width, input.height)) / Double(p.size!)
        : Double(max(p.crop![2], p.crop![3])) / Double(p.size!)
      let taps = 2 * (p.interpolation == .bilinear ? 1 : 2) * max(1, stretch) + 1
      return 2 * (taps + 2) * 1.7 * u
    case "flip", "solarise": return 2 * u  // the input's own rounding
    case "brightness", "lighten": return 4 * u
    case "contrast", "saturation", "grey": return 10 * u  // luminance 5, blend 3, input 2; factors below 2
    case "hue": return (5 * 4 + 3 * 8 + 4) * u  // h ≤ 8 (twice ≤ 13 with the sector) is rounded five times, then scaled
    case "blur": return 2 * (min(Double(p.taps!), side) + 2) * u
    case "normalise": return 4 * u / 0.224 * 2.7  // values up to 2.7, after a division by the deviation
    default: return 0
    }
  }

  /// Bound of the error of PIL's bytes: half a step per rounding. Each pass of a resize rounds, colours are blended
  /// with rounded luminance, and hue passes through 8-bit HSV, where a step of hue is up to 6·255/256 and one of
  /// saturation 1.
  var boundPIL: Double {
    switch parameters.operation {
    case "resize", "centre": 1.3 / 255
    case "contrast", "saturation": 1.5 / 255
    case "hue": 10.0 / 255
    default: 1.0 / 255
    }
  }
}

@Suite struct TorchvisionTests {
  @Test func fixturesAreThere() {
    let operations = Set(AugmentationFixture.all.map(\.parameters.operation))
    #expect(
      operations == [
        "resize", "centre", "brightness", "lighten", "contrast", "saturation", "hue", "grey", "flip", "solarise",
        "blur", "normalise",
      ])
  }

  @Test(arguments: AugmentationFixture.all) func equalsTorchvision(_ fixture: AugmentationFixture) throws {
    let made = fixture.made()
    let exact = try #require(fixture.result("exact"))
    let float = try #require(fixture.result("float"))
    #expect(made.shape == exact.shape && made.shape == float.shape)
    func distance(_ other: [Float], _ values: [Float]) -> Double {
      zip(values, other).map { abs(Double($0) - Double($1)) }.max()!
    }
    // The bound does not include torch's own error in Float.
    let own = distance(exact.values, float.values)
    let error = distance(exact.values, made.values)
    #expect(error <= fixture.bound, "error \(error / 0x1p-24) u, bound \(fixture.bound / 0x1p-24) u")
    #expect(distance(float.values, made.values) <= fixture.bound + own)
    // The golden values are not trivial.
    #expect(exact.values.max()! - exact.values.min()! > 0.2)
    if let pil = fixture.result("pil") {
      let off = distance(pil.values, made.values)
      #expect(pil.shape == made.shape)
      #expect(off <= fixture.boundPIL, "off PIL by \(255 * off)/255")
    }
  }
}
