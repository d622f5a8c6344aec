import ArgumentParser
import Engine
import Foundation
import Shards
import Training

/// How a bench is timed, and how it is told.
struct BenchTiming: ParsableArguments {
  @Option(help: "Steps that are timed, after one that warms up.") var steps = 4
  @Option(help: "Compute threads of each rank.") var threads: Int?
  @Flag(help: "Without Winograd.") var exact = false
  @Option(
    help: """
      Take weights, images and labels from a file, and print instead what tells whether another framework computes the \
      same.
      """)
  var exchange: String?
  @Flag(help: "Every layer as well.") var layers = false
  @Flag(help: "One JSON object.") var json = false
  @Option(
    help: """
      Take turns with other programs: wait for a byte of this pipe before each step, and print a line after it. \
      Ranks have a pipe each.
      """)
  var turns: String?

  /// Refuses numbers that are out of their ranges.
  static func check(_ numbers: [(name: String, value: Int, range: ClosedRange<Int>)]) throws {
    for (name, value, range) in numbers where !range.contains(value) {
      throw ValidationError("\(name) is \(value); it must be \(range.lowerBound) to \(range.upperBound)")
    }
  }

  func validate() throws {
    try Self.check([("--steps", steps, 1...1_000_000), ("--threads", threads ?? 1, 1...1024)])
  }

  /// Times a bench, or runs it once on what a file holds, and prints the result.
  /// - Parameter what: the work, in words.
  func run(_ bench: Bench, _ context: Context, what: String) throws {
    let isRoot = context.communicator.isRoot
    if let exchange {
      let figures = try bench.exchange(exchange)
      if isRoot { print(JSONValue.object(figures.mapValues { .number($0) }).json) }
      return
    }
    let turns = try turns.map(TurnPipe.init)
    let result = try bench.run(steps: steps, before: { try turns?.wait() }) { seconds in
      if turns == nil || !isRoot { return }
      print(
        JSONValue.object(["views_per_second": .number(bench.viewsPerSecond(seconds)), "seconds": .number(seconds)])
          .json)
      fflush(nil)
    }
    guard isRoot else { return }
    if json { print(object(result, context).json) } else { show(result, context, what) }
  }

  private func show(_ result: Bench.Result, _ context: Context, _ what: String) {
    if let exposed = result.exposed { show(exposed, of: result.meanSeconds) }
    print("\(what); \(context.communicator.size) × \(context.team.count) threads")
    print(
      String(format: "%.1f views/s, %.4f s a step, ", result.viewsPerSecond, result.seconds)
        + "\(megabytes(Int(result.peakResident))) MiB at most")
    print(
      "of each rank: \(mebibytes(result.activations)) of activations, \(mebibytes(result.kept)) of weights, gradients "
        + "and other state; gradients sent in a step: \(mebibytes(result.sentBytes))")
    print(
      String(
        format: "roofs here: %.0f GFLOP/s of multiply-adds, %.0f of Winograd's convolution, %.1f GB/s of memory",
        result.peak.arithmetic * 1e-9, result.peak.winograd * 1e-9, result.peak.memory * 1e-9))
    for advice in Launch.advice { print(advice) }
    print()
    showParts(result)
  }

  private func mebibytes(_ bytes: Int) -> String { String(format: "%.1f MiB", Double(bytes) / 0x1p20) }

  private func object(_ result: Bench.Result, _ context: Context) -> JSONValue {
    var parts: [String: JSONValue] = [:]
    for part in result.parts { parts[part.part.rawValue] = .number(part.sum.seconds) }
    var exposed: [String: JSONValue] = [:]
    if let e = result.exposed {
      exposed = [
        "gradients": .number(e.gradients), "gradients_unhidden": .number(e.unhidden), "rest": .number(e.rest),
        "waiting": .number(e.waiting),
      ]
    }
    return .object([
      "views_per_second": .number(result.viewsPerSecond), "seconds": .number(result.seconds),
      "mean_seconds": .number(result.meanSeconds), "peak_rss_mb": .number(megabytes(Int(result.peakResident))),
      "activation_bytes": .number(result.activations), "state_bytes": .number(result.kept),
      "sent_bytes": .number(result.sentBytes), "parts": .object(parts), "exposed": .object(exposed),
      "fma_peak_gflops": .number(result.peak.arithmetic * 1e-9), "ranks": .number(context.communicator.size),
      "threads": .number(context.team.count),
    ])
  }

  private func show(_ exposed: Bench.Exposed, of step: Double) {
    print(
      String(
        format: "communication: gradients %.4f s exposed of %.4f (%.0f %% hidden), the rest %.4f s; "
          + "%.1f %% of the step",
        exposed.gradients, exposed.unhidden, 100 * (1 - exposed.gradients / exposed.unhidden), exposed.rest,
        100 * (exposed.gradients + exposed.rest) / step))
    print(
      String(
        format: "waiting for the slower rank: %.4f s, %.1f %% of the step", exposed.waiting,
        100 * exposed.waiting / step))
  }

  /// Every part of a step with its share of the time, and with its share of the roof that bounds it.
  private func showParts(_ result: Bench.Result) {
    func pad(_ text: String, _ count: Int) -> String {
      String(repeating: " ", count: max(0, count - text.count)) + text
    }
    func row(_ name: String, _ part: Profile.Part?, _ sum: Profile.Sum, width: Int) -> String {
      var text =
        name.padding(toLength: width, withPad: " ", startingAt: 0) + pad(String(format: "%.4f s", sum.seconds), 10)
        + pad(String(format: "%.1f %%", 100 * sum.seconds / result.meanSeconds), 9)
      let rate = part?.roof == .memory ? sum.gigabytes : sum.gflops
      if let part, let roof = result.peak.of(part.roof), rate > 0 {
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

/// A named pipe through which another program says when to go on.
private struct TurnPipe {
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
