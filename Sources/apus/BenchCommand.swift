import ArgumentParser
import Engine
import Foundation
import Training

/// `apus bench --arch …` is `apus bench step --arch …`.
struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Time a step (the default), or the making of views.",
    subcommands: [BenchStepCommand.self, BenchViewsCommand.self], defaultSubcommand: BenchStepCommand.self)
}

struct BenchStepCommand: PrintsResults {
  static let configuration = CommandConfiguration(
    commandName: "step",
    abstract: "Time the step of a method on this machine, part by part, alone or under a launcher.")

  @Option(help: "Encoder: \(ResNet.Depth.allCases.map(\.rawValue).joined(separator: ", ")).") var arch = "resnet18"
  @Option(help: "Factor on its channels.") var width = 1.0
  @Option(help: "Side of the views, pixels; up to 64 the stem is the small one.") var size = 32
  @Option(help: "Channels of the images.") var channels = 3
  @Option(help: "Images of each rank and step; two views each.") var images = 64
  @Option(help: "Steps that are timed, after one that warms up.") var steps = 4
  @Option(help: "Compute threads of each rank.") var threads: Int?
  @Option(help: "simclr or moco.") var method = "simclr"
  @Option(help: "Images in a BN group (default: all).") var group: Int?
  @Flag(help: "Without Winograd.") var exact = false
  @Option(help: "Take weights and views from a file, and print loss and gradient norm instead.") var exchange: String?
  @Flag(help: "Every layer as well.") var layers = false
  @Flag(help: "One JSON object.") var json = false
  @Option(
    help: """
      Take turns with other programs: wait for a byte of this pipe before each step, and print a line after it. \
      Ranks have a pipe each.
      """)
  var turns: String?

  func validate() throws {
    if ResNet.Depth(rawValue: arch) == nil { throw ValidationError("there is no encoder `\(arch)`") }
    if !["simclr", "moco"].contains(method) { throw ValidationError("--method is \(method), expected simclr or moco") }
    let numbers = [
      ("--size", size, 1...4096), ("--channels", channels, 1...64), ("--images", images, 1...1_000_000),
      ("--steps", steps, 1...1_000_000), ("--group", group ?? 2, 2...1_000_000_000),
      ("--threads", threads ?? 1, 1...1024),
    ]
    for (name, value, range) in numbers where !range.contains(value) {
      throw ValidationError("\(name) is \(value); it must be \(range.lowerBound) to \(range.upperBound)")
    }
    if !(width * 64 >= 1 && width <= 16) { throw ValidationError("--width is \(width); it must be 1/64 to 16") }
  }

  func run() throws {
    try Job.run(threads: threads) { context in
      var options = Bench.Options(
        encoder: EncoderRecipe(ResNet.Depth(rawValue: arch)!, width: width, stem: size <= 64 ? .small : .imagenet))
      options.size = size
      options.channels = channels
      options.images = images
      options.steps = steps
      if method == "moco" { options.method = MoCo() }
      if let group { options.normalisation = .group(images: group) }
      if exact { options.convolution = .exact }
      let bench = try Bench(options, context)
      let isRoot = context.communicator.isRoot
      if let exchange {
        let (loss, norm) = try bench.exchange(exchange)
        if isRoot { print(JSONValue.object(["loss": .number(loss), "gradient_norm": .number(norm)]).json) }
        return
      }
      let turns = try turns.map(Turns.init)
      let result = try bench.run(before: { try turns?.wait() }) { seconds in
        if turns == nil || !isRoot { return }
        print(
          JSONValue.object(["views_per_second": .number(bench.viewsPerSecond(seconds)), "seconds": .number(seconds)])
            .json)
        fflush(nil)
      }
      if isRoot { show(result, context) }
    }
  }

  private func show(_ result: Bench.Result, _ context: Context) {
    let megabytes = Int(result.peakResident >> 20)
    if json {
      var parts: [String: JSONValue] = [:]
      for part in result.parts { parts[part.part.rawValue] = .number(part.sum.seconds) }
      var exposed: [String: JSONValue] = [:]
      if let e = result.exposed {
        exposed = [
          "gradients": .number(e.gradients), "gradients_unhidden": .number(e.unhidden), "rest": .number(e.rest),
          "waiting": .number(e.waiting),
        ]
      }
      print(
        JSONValue.object([
          "views_per_second": .number(result.viewsPerSecond), "seconds": .number(result.seconds),
          "mean_seconds": .number(result.meanSeconds), "peak_rss_mb": .number(megabytes),
          "parts": .object(parts), "exposed": .object(exposed),
          "fma_peak_gflops": .number(result.peak.arithmetic * 1e-9), "ranks": .number(context.communicator.size),
          "threads": .number(context.team.count),
        ]).json)
      return
    }
    if let e = result.exposed {
      print(
        String(
          format:
            "communication: gradients %.4f s exposed of %.4f (%.0f %% hidden), the rest %.4f s; %.1f %% of the step",
          e.gradients, e.unhidden, 100 * (1 - e.gradients / e.unhidden), e.rest,
          100 * (e.gradients + e.rest) / result.meanSeconds))
      print(
        String(
          format: "waiting for the slower rank: %.4f s, %.1f %% of the step", e.waiting,
          100 * e.waiting / result.meanSeconds))
    }
    func pad(_ text: String, _ count: Int) -> String {
      String(repeating: " ", count: max(0, count - text.count)) + text
    }
    print(
      "\(arch) ×\(width), \(size) px, \(images) images × 2 views a rank, "
        + "\(context.communicator.size) × \(context.team.count) threads, \(method)")
    print(
      String(format: "%.1f views/s, %.4f s a step, ", result.viewsPerSecond, result.seconds)
        + "\(megabytes) MiB at most")
    let peak = result.peak
    print(
      String(
        format: "roofs here: %.0f GFLOP/s of multiply-adds, %.0f of Winograd's convolution, %.1f GB/s of memory",
        peak.arithmetic * 1e-9, peak.winograd * 1e-9, peak.memory * 1e-9))
    for advice in Launch.advice { print(advice) }
    print()
    func row(_ name: String, _ part: Profile.Part?, _ sum: Profile.Sum, width: Int) -> String {
      var text =
        name.padding(toLength: width, withPad: " ", startingAt: 0) + pad(String(format: "%.4f s", sum.seconds), 10)
        + pad(String(format: "%.1f %%", 100 * sum.seconds / result.meanSeconds), 9)
      let rate = part?.roof == .memory ? sum.gigabytes : sum.gflops
      if let part, let roof = peak.of(part.roof), rate > 0 {
        text +=
          pad(String(format: part.roof == .memory ? "%.1f GB/s" : "%.0f GFLOP/s", rate), 14)
          + pad(String(format: "%.0f %% of its roof", 100 * rate * 1e9 / roof), 18)
      }
      return text
    }
    var rest = Profile.Sum(seconds: result.meanSeconds)
    for part in result.parts {
      print(row(part.part.rawValue, part.part, part.sum, width: 14))
      rest.seconds -= part.sum.seconds
    }
    print(row("the rest", nil, rest, width: 14))
    if layers { for layer in result.layers { print(row(layer.name, layer.part, layer.sum, width: 44)) } }
  }
}

/// A named pipe through which another program controls when each step starts.
private struct Turns {
  let path: String
  private let pipe: FileHandle

  init(_ path: String) throws {
    guard let pipe = FileHandle(forReadingAtPath: path) else {
      throw RunError("--turns: \(path) cannot be opened for reading; make it with mkfifo")
    }
    self.path = path
    self.pipe = pipe
  }

  func wait() throws {
    guard try pipe.read(upToCount: 1)?.count == 1 else {
      throw RunError("--turns: \(path) was closed before the last step")
    }
  }
}
