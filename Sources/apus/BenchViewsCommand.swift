import ArgumentParser
import Foundation
import Shards
import Training

struct BenchViewsCommand: PrintsResults {
  static let configuration = CommandConfiguration(
    commandName: "views",
    abstract: "Time reading, decoding and augmenting a data set, as a run's loader does it.")

  @Argument(help: "A recipe file, or the name of a built-in recipe: its views are made.") var recipe: String
  @Option(help: "A data set that `apus pack` made; of a split one, train is taken.") var data: String
  @Option(name: .customLong("set"), help: "Override a field of the recipe. Can be repeated.")
  var overrides: [String] = []
  @Option(help: "Threads that load and augment.") var loaderThreads = 1
  @Option(help: "Time for so many seconds, after some batches that warm up.") var seconds = 5.0
  @Flag(help: "One JSON object, with the views that were made.") var json = false

  func validate() throws {
    guard (1...1024).contains(loaderThreads) else {
      throw ValidationError("--loader-threads is \(loaderThreads); it must be 1 to 1024")
    }
    guard seconds > 0, seconds <= 3600 else {
      throw ValidationError("--seconds is \(seconds); it must be above 0 and at most 3600")
    }
  }

  func run() throws {
    let bench = try ViewsBench(try Recipe(recipe, overrides: overrides), data: data, threads: loaderThreads)
    let result = try bench.run(seconds: seconds)
    if json {
      print(
        JSONValue.object([
          "images_per_second": .number(result.imagesPerSecond), "images": .number(result.images),
          "seconds": .number(result.seconds), "views_per_image": .number(result.viewsPerImage),
          "bytes_per_image": .number(result.bytesPerImage), "mean": .number(result.mean),
          "deviation": .number(result.deviation), "loader_threads": .number(loaderThreads), "views": try bench.views,
        ]).json)
      return
    }
    func fixed(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }
    print(
      "\(fixed(result.imagesPerSecond, 1)) images/s, \(result.viewsPerImage) views of each, "
        + "\(loaderThreads) loader thread\(loaderThreads == 1 ? "" : "s")")
    print("\(result.images) images of \(fixed(result.bytesPerImage / 1024, 1)) KiB in \(fixed(result.seconds, 1)) s")
    print("the views' values have mean \(fixed(result.mean, 4)) and deviation \(fixed(result.deviation, 4))")
  }
}
