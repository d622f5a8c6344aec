import Foundation
import Randomness
import Shards
import Testing

@Suite struct ViewRecipeTests {
  static func decode(_ json: String) throws -> [ViewRecipe] {
    do { return try JSONDecoder().decode([ViewRecipe].self, from: Data(json.utf8)) } catch let error as DecodingError {
      throw RecipeError(error)
    }
  }

  static let full = """
    [{"count": 2, "size": 224, "operations": [
      {"crop": {"scale": [0.08, 1], "ratio": [0.75, 1.333], "interpolation": "bicubic", "sampling": "height"}},
      {"flip": 0.5},
      {"colour": {"probability": 0.8, "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2,
                  "brightnessBy": "summand", "contrastBy": "channel", "saturationBy": "hsv"}},
      {"grey": 0.2}, {"blur": {"probability": 0.5, "sigma": [0.1, 2.0], "sharing": "batch"}},
      {"solarise": {"probability": 0.2, "threshold": 0.5}}, {"normalise": "dataset"}]},
     {"size": 96, "operations": [{"crop": {}}, {"normalise": {"mean": [0.5, 0.5, 0.5], "deviation": [1, 2, 3]}}]},
     {"count": 4, "size": 16, "same": ["flip"], "operations": [
       {"tiles": {"grid": 2, "scale": [0.6, 1], "jitter": 0.1, "orders": 24}}, {"flip": 0.5}, {"rotate": "random"},
       {"channels": "ab"}]},
     {"size": 16, "operations": [{"channels": 2}]}]
    """

  @Test func decodesAndEncodes() throws {
    let recipes = try Self.decode(Self.full)
    #expect(
      recipes == [
        ViewRecipe(
          count: 2, size: 224,
          operations: [
            Crop(scale: Bounds(0.08, 1), ratio: Bounds(0.75, 1.333), interpolation: .bicubic, sampling: .height),
            Flip(probability: 0.5),
            Colour(
              probability: 0.8, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2, brightnessBy: .summand,
              contrastBy: .channel, saturationBy: .hsv),
            Grey(probability: 0.2), Blur(sharing: .batch), Solarise(), Normalise.dataset,
          ]),
        ViewRecipe(
          size: 96,
          operations: [Crop(), Normalise.explicit(mean: [0.5, 0.5, 0.5], deviation: [1, 2, 3])]),
        ViewRecipe(
          count: 4, size: 16, same: ["flip"],
          operations: [
            Tiles(grid: 2, scale: Bounds(0.6, 1), jitter: 0.1, orders: 24), Flip(), Rotate.random, Channels.colour,
          ]),
        ViewRecipe(size: 16, operations: [Channels.one(2)]),
      ])
    #expect(try JSONDecoder().decode([ViewRecipe].self, from: JSONEncoder().encode(recipes)) == recipes)
    #expect(recipes[0] != recipes[1])
  }

  struct Refusal: CustomTestStringConvertible {
    var json: String, message: String
    init(_ json: String, _ message: String) {
      self.json = json
      self.message = message
    }
    var testDescription: String { message }
  }

  @Test(arguments: [
    Refusal(
      #"[{"sise": 224}]"#,
      "[0]: a view has no `sise`; did you mean `size`? It takes `count`, `size`, `same`, "
        + "`operations`"),
    Refusal(#"[{"count": 1}]"#, "[0]: `size` is missing"),
    Refusal(
      #"[{"size": 8, "operations": [{"gray": 0.2}]}]"#,
      "[0].operations[0]: the list of operations has no `gray`; did you mean `grey`? It takes `crop`, `centre`, "
        + "`tiles`, `flip`, `rotate`, `colour`, `grey`, `blur`, `solarise`, `channels`, `normalise`"),
    Refusal(
      #"[{"size": 8, "operations": [{"colour": {"brigthness": 1}}]}]"#,
      "[0].operations[0].colour: colour has no `brigthness`; did you mean `brightness`? It takes `probability`, "
        + "`brightness`, `contrast`, `saturation`, `hue`, `brightnessBy`, `contrastBy`, `saturationBy`"),
    Refusal(
      #"[{"size": 8, "operations": [{"flip": 0.5, "grey": 1}]}]"#,
      "[0].operations[0]: an operation is one key and its values, such as `{flip: 0.5}`; found 2 keys"),
    Refusal(
      #"[{"size": 8, "operations": [{"crop": {"scale": [1, 0.2]}}]}]"#,
      "[0].operations[0].crop.scale: a range is two numbers, the smaller first, such as [0.1, 2]; found [1.0, 0.2]"),
    Refusal(
      #"[{"size": 8, "operations": [{"normalise": "datset"}]}]"#,
      "[0].operations[0].normalise: normalise has no `datset`; did you mean `dataset`? It takes `dataset`, `imagenet`, "
        + "`none`"),
  ])
  func refusesInWords(_ refusal: Refusal) {
    let error = #expect(throws: RecipeError.self) { _ = try Self.decode(refusal.json) }
    #expect(error?.description == refusal.message)
  }

  @Test func nearestNames() {
    #expect(nearest(to: "lerning", in: ["learning", "rate"]) == "learning")
    #expect(nearest(to: "Size", in: ["size", "sizes"]) == "size")
    #expect(nearest(to: "sgima", in: ["sigma", "kernel"]) == "sigma")
    #expect(nearest(to: "temperature", in: ["size", "count"]) == nil)
  }

  struct Invalid: CustomTestStringConvertible {
    var operations: [any ViewOperation], channels: Int, message: String
    init(_ operations: [any ViewOperation], _ channels: Int, _ message: String) {
      self.operations = operations
      self.channels = channels
      self.message = message
    }
    var testDescription: String { message }
  }

  static let invalid = [
    Invalid([Flip(probability: 1.5)], 3, "flip is 1.5; expected 0.0 to 1.0"),
    Invalid([Flip(), Crop()], 3, "views: `crop` is operation 2; it must be the first, and only once"),
    Invalid([Normalise.none, Flip()], 3, "views: `normalise` is operation 1 of 2; it must be the last"),
    Invalid([Crop(scale: Bounds(0, 1))], 3, "crop.scale is 0.0; expected 1e-06 to 1.0"),
    Invalid([Colour(hue: 0.6)], 3, "colour.hue is 0.6; expected 0.0 to 0.5"),
    Invalid(
      [Colour(saturation: 0.1, hue: 0.1)], 4,
      "colour.saturation and colour.hue need red, green and blue, the data have 4 channels; set to 0"),
    Invalid([Grey()], 2, "grey needs red, green and blue, the data have 2 channels; remove it from the view"),
    Invalid([Blur(kernel: 4)], 3, "blur.kernel is 4; expected an odd number below 40 for views of 20 pixels"),
    Invalid([Blur(kernel: 41)], 3, "blur.kernel is 41; expected an odd number below 40 for views of 20 pixels"),
    Invalid([Normalise.imagenet], 1, "normalise: imagenet has 3 channels, the data have 1; use `dataset`"),
    Invalid([Channels.one(3)], 3, "channels is 3; the data have channels 0 to 2"),
    Invalid([Channels.colour], 1, "channels: L and ab need red, green and blue, the data have 1 channels"),
    Invalid(
      [Channels.lightness, Normalise.dataset], 3,
      "normalise: dataset, but `channels` made other values of the data set's; give mean and deviation"),
    Invalid(
      [Channels.one(1), Normalise.imagenet], 3, "normalise: imagenet has 3 channels, the data have 1; use `dataset`"),
    Invalid([Tiles(grid: 1)], 3, "tiles.grid is 1.0; expected 2.0 to 8.0"),
    Invalid([Tiles(grid: 2, orders: 25)], 3, "tiles.orders is 25; expected 0, or 2 to 24 for 4 tiles"),
    Invalid([Tiles(grid: 2)], 3, "tiles: the view has count 1, but a grid of 2 has 4 tiles"),
    Invalid(
      [Rotate.each, Rotate.random], 3,
      "views: `rotate` and `rotate` each give a target; a kind of view has one at most"),
  ]

  @Test func sameListsOperationsThatAreThere() {
    let error = #expect(throws: RecipeError.self) {
      _ = try ViewRecipe(count: 2, size: 8, same: ["crop", "flip"], operations: [Crop()]).validate(channels: 3)
    }
    #expect(error?.description == "views: `same` lists `flip`, which is not among the operations of the view")
  }

  @Test(arguments: invalid) func validates(_ invalid: Invalid) {
    let error = #expect(throws: RecipeError.self) {
      _ = try ViewRecipe(size: 20, operations: invalid.operations).validate(channels: invalid.channels)
    }
    #expect(error?.description == invalid.message)
  }

  @Test func saysWhatOneChannelLeavesOut() throws {
    let recipe = ViewRecipe(
      size: 28, operations: [Crop(), Colour(brightness: 0.4, saturation: 0.4, hue: 0.1), Grey(), Blur()])
    #expect(try recipe.validate(channels: 1) == ["saturation, hue, grey do nothing on 1-channel data: left out"])
    #expect(try recipe.validate(channels: 3) == [])
    let grey = ViewRecipe(size: 28, operations: [Channels.lightness, Colour(saturation: 0.4)])
    #expect(try grey.validate(channels: 3) == ["saturation does nothing on 1-channel data: left out"])
  }
}

@Suite struct AugmentationPropertyTests {
  static func canvas(_ size: Int, _ channels: Int, seed: UInt64, in workspace: Workspace) -> Canvas {
    var draws = Draws(seed: seed, .check)
    let values = (0..<size * size * channels).map { _ in Float(draws.uniform()) }
    let canvas = Canvas(size: size, channels: channels, in: workspace)
    canvas.read(from: values)
    return canvas
  }
  static func values(_ canvas: Canvas) -> [Float] {
    var out = [Float](repeating: .nan, count: canvas.area * canvas.channels)
    out.withUnsafeMutableBufferPointer { canvas.write(to: $0.baseAddress!) }
    return out
  }
  static let operations: [any Augmentation] = [
    Flip(), Colour(probability: 0.8, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2),
    Colour(brightness: 0.8, brightnessBy: .summand),
    Colour(contrast: 0.8, saturation: 0.8, contrastBy: .channel, saturationBy: .hsv), Grey(probability: 0.5),
    Blur(kernel: 5), Rotate.random,
    Blur(kernel: 3, sharing: .batch), Solarise(probability: 0.5),
  ]

  /// Operations are pure functions of the key and stay in [0, 1], for every size down to one pixel and all allowed
  /// channels.
  @Test(arguments: operations.indices) func pureAndInRange(_ index: Int) throws {
    let operation = Self.operations[index]
    for size in [1, 2, 3, 7, 16, 31, 64] {
      for channels in [1, 2, 3, 5] where (try? operation.validate(ViewRecipe(size: size), channels: channels)) != nil {
        var results: Set<[Float]> = []
        for seed in 0..<20 as Range<UInt64> {
          let key = ViewKey(seed: seed, epoch: 1, step: 3, sample: 4, view: 1)
          let workspace = Workspace()
          let canvas = Self.canvas(size, channels, seed: 1, in: workspace)
          operation.apply(to: canvas, key)
          let first = Self.values(canvas)
          #expect(first.allSatisfy { 0 <= $0 && $0 <= 1 }, "size \(size), \(channels) channels, seed \(seed)")
          // Another workspace that was used for a larger view before.
          let used = Workspace()
          operation.apply(to: Self.canvas(70, channels, seed: 9, in: used), key)
          let again = Self.canvas(size, channels, seed: 1, in: used)
          operation.apply(to: again, key)
          #expect(Self.values(again) == first, "size \(size), \(channels) channels, seed \(seed)")
          results.insert(first)
        }
        // Results differ between draws, except for views too small to change.
        if size > 6, channels == 3 { #expect(results.count > 1) }
      }
    }
  }

  /// Relative frequency within five standard errors of the probability.
  @Test(arguments: [0.0, 0.2, 0.5, 1.0]) func probabilities(_ p: Double) {
    let operations: [any Augmentation] = [
      Flip(probability: p), Colour(probability: p, brightness: 0.5), Grey(probability: p),
      Blur(probability: p, kernel: 3), Solarise(probability: p),
    ]
    let workspace = Workspace()
    let n = 1000
    for operation in operations {
      var changed = 0
      for sample in 0..<n {
        let canvas = Self.canvas(4, 3, seed: 1, in: workspace)
        let before = Self.values(canvas)
        operation.apply(to: canvas, ViewKey(seed: 1, epoch: 0, step: 0, sample: sample, view: 0))
        if Self.values(canvas) != before { changed += 1 }
      }
      // A blur with sigma below about 0.16, 3 % of the draws, changes nothing.
      let error = 5 * (p * (1 - p) / Double(n)).squareRoot() + (operation is Blur ? 0.05 * p : 0)
      #expect(abs(Double(changed) / Double(n) - p) <= error, "\(operation): \(changed) of \(n)")
    }
  }

  /// Two operations of one kind, and the views of one sample, draw independently; a batch's sigma is shared.
  @Test func keysSeparate() {
    let workspace = Workspace()
    func result(_ operation: any Augmentation, _ key: ViewKey) -> [Float] {
      let canvas = Self.canvas(8, 3, seed: 1, in: workspace)
      operation.apply(to: canvas, key)
      return Self.values(canvas)
    }
    let colour = Colour(brightness: 0.8)
    let key = ViewKey(seed: 1, epoch: 2, step: 3, sample: 4, view: 0)
    let first = result(colour, key)
    for change: (inout ViewKey) -> Void in [
      { $0.seed = 2 }, { $0.epoch = 3 }, { $0.sample = 5 }, { $0.view = 1 }, { $0.occurrence = 1 },
    ] {
      var other = key
      change(&other)
      #expect(result(colour, other) != first)
    }
    var elsewhere = key
    elsewhere.step = 9
    #expect(result(colour, elsewhere) == first)  // a view does not depend on the step
    let shared = Blur(probability: 1, kernel: 5, sharing: .batch)
    let one = Blur(probability: 1, kernel: 5)
    var neighbour = key
    neighbour.sample = 5
    #expect(result(shared, key) == result(shared, neighbour) && result(one, key) != result(one, neighbour))
    #expect(result(shared, key) != result(shared, elsewhere))
  }
}
