import ArgumentParser
import Engine
import Shards
import Training

/// `apus bench --arch …` is `apus bench step --arch …`.
struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Time a step (the default), a frozen encoder's features, or the making of views.",
    subcommands: [BenchStepCommand.self, BenchFeaturesCommand.self, BenchViewsCommand.self],
    defaultSubcommand: BenchStepCommand.self)
}

struct BenchStepCommand: PrintsResults {
  static let configuration = CommandConfiguration(
    commandName: "step",
    abstract: "Time the step of a method on this machine, part by part, alone or under a launcher.")

  @Option(
    help: """
      A recipe file, or the name of a built-in recipe: the step of its last stage, on random images and labels. A \
      teacher that is an earlier stage gets random weights.
      """)
  var recipe: String?
  @Option(name: .customLong("set"), help: "Override a field of the recipe. Can be repeated.")
  var overrides: [String] = []
  @Option(help: "Without a recipe, the encoder: \(BenchEncoder.names) (default: resnet18).") var arch: String?
  @Option(help: "Factor on its channels (default: 1).") var width: Double?
  @Option(help: "Side of the views, pixels; up to 64 the stem is the small one (default: 32).") var size: Int?
  @Option(help: "Channels of the images.") var channels = 3
  @Option(help: "Images of each rank and step; without a recipe, two views each.") var images = 64
  @Option(help: "Classes of their labels.") var classes = 10
  @Option(help: "Without a recipe: simclr or moco (default: simclr).") var method: String?
  @Option(help: "Without a recipe, images in a BN group (default: all).") var group: Int?
  @OptionGroup var timing: BenchTiming

  func validate() throws {
    if recipe == nil {
      if !overrides.isEmpty { throw ValidationError("--set overrides a field of a recipe; give --recipe as well") }
    } else {
      let others = [
        ("--arch", arch != nil), ("--width", width != nil), ("--size", size != nil), ("--method", method != nil),
        ("--group", group != nil), ("--exact", timing.exact),
      ]
      if let (name, _) = others.first(where: \.1) {
        throw ValidationError("\(name) is for a step without a recipe; change the recipe's by --set")
      }
    }
    if let method, !["simclr", "moco"].contains(method) {
      throw ValidationError("--method is \(method), expected simclr or moco")
    }
    _ = try BenchEncoder(arch, width: width, size: size ?? 32)
    try BenchTiming.check([
      ("--channels", channels, 1...64), ("--images", images, 1...1_000_000), ("--group", group ?? 2, 2...1_000_000_000),
      ("--classes", classes, 1...1_000_000),
    ])
  }

  func run() throws {
    try Job.run(threads: timing.threads) { context in
      let (step, kinds, what) = try recipe.map(ofRecipe) ?? ofOptions()
      let batch = Bench.Batch(kinds, images: images, classes: classes)
      let bench = try Bench(batch, context) { try StepWork(step, $0, $1) }
      let views = batch.viewsPerImage
      try timing.run(bench, context, what: "\(images) images × \(views) view\(views == 1 ? "" : "s") a rank, \(what)")
    }
  }

  /// The last stage of a recipe.
  private func ofRecipe(_ source: String) throws -> (StepWork.Options, [Bench.Batch.Kind], String) {
    let recipe = try Recipe(source, overrides: overrides)
    let stage = recipe.stages.last!
    return (
      try StepWork.Options(recipe, channels: channels, classes: classes),
      stage.views.map { Bench.Batch.Kind($0, channels: channels) },
      recipe.stages.count == 1 ? recipe.name : "\(recipe.name), stage \(stage.name)"
    )
  }

  /// SimCLR or MoCo on two views.
  private func ofOptions() throws -> (StepWork.Options, [Bench.Batch.Kind], String) {
    let encoder = try BenchEncoder(arch, width: width, size: size ?? 32)
    let method = method ?? "simclr"
    var simclr = SimCLR()
    simclr.temperature = 0.5
    var options = StepWork.Options(encoder: encoder.recipe, method: method == "moco" ? MoCo() : simclr)
    if timing.exact { options.convolution = .exact }
    if let group { options.normalisation = .group(images: group) }
    return (
      options, [Bench.Batch.Kind(count: 2, size: encoder.size, channels: channels)], "\(encoder), \(method)"
    )
  }
}

struct BenchFeaturesCommand: PrintsResults {
  static let configuration = CommandConfiguration(
    commandName: "features",
    abstract: "Time the features of a frozen encoder on this machine, or its scores of classes, part by part.")

  @Option(help: "Encoder: \(BenchEncoder.names).") var arch = "resnet50"
  @Option(help: "Factor on its channels.") var width = 1.0
  @Option(help: "Side of the images, pixels; up to 64 the stem is the small one.") var size = 224
  @Option(help: "Channels of the images.") var channels = 3
  @Option(help: "Images of each rank, computed at a time.") var images = 16
  @Option(help: "Classes of a linear classifier on the features (default: no classifier).") var classes: Int?
  @OptionGroup var timing: BenchTiming

  func validate() throws {
    _ = try BenchEncoder(arch, width: width, size: size)
    try BenchTiming.check([
      ("--channels", channels, 1...64), ("--images", images, 1...1_000_000), ("--classes", classes ?? 1, 1...1_000_000),
    ])
  }

  func run() throws {
    try Job.run(threads: timing.threads) { context in
      let encoder = try BenchEncoder(arch, width: width, size: size)
      context.convolution = timing.exact ? .exact : .fast
      let batch = Bench.Batch([.init(count: 1, size: size, channels: channels)], images: images)
      let bench = try Bench(batch, context) { FeaturesWork(encoder.recipe, classes: classes, $0, $1) }
      let what = classes.map { "scores of \($0) classes" } ?? "features"
      try timing.run(bench, context, what: "\(images) images a rank, \(encoder), \(what)")
    }
  }
}

/// The encoder that a bench is asked for.
private struct BenchEncoder: CustomStringConvertible {
  static let names = ResNet.Depth.allCases.map(\.rawValue).joined(separator: ", ")

  let recipe: EncoderRecipe
  let size: Int

  init(_ name: String?, width: Double?, size: Int) throws {
    let name = name ?? "resnet18"
    let width = width ?? 1
    guard let depth = ResNet.Depth(rawValue: name) else { throw ValidationError("there is no encoder `\(name)`") }
    if !(width * 64 >= 1 && width <= 16) { throw ValidationError("--width is \(width); it must be 1/64 to 16") }
    try BenchTiming.check([("--size", size, 1...4096)])
    recipe = EncoderRecipe(depth, width: width, stem: size <= 64 ? .small : .imagenet)
    self.size = size
  }

  var description: String { "\(recipe.name.rawValue) ×\(recipe.width), \(size) px" }
}
