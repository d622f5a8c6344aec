import ArgumentParser
import Shards
import Training

struct ReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Write a run's report.html anew: one page, nothing fetched.")

  @Argument(help: "A run's folder.")
  var path: String

  @Option(help: "The run's data set, to show views and kernels anew.")
  var data: String?

  func run() throws {
    if let data {
      let paths = Trainer.paths(data, nil)
      var exhibits = try Exhibits.make(FrozenEncoder(run: path), run: path, data: DataSet(at: paths.train), test: nil, nil)
      // What an evaluation found is kept.
      if let old = try RunFiles.exhibits(of: path) {
        exhibits.grids += old.grids.filter { grid in !exhibits.grids.contains { $0.title == grid.title } }
        if try !RunFiles.evaluations(of: path).isEmpty { exhibits.summary = old.summary }
      }
      try RunFiles.write(exhibits, to: path)
    }
    try Report.write(try ReportContent(run: path), to: RunFolder(path).report)
    print("The report is \(RunFolder(path).report)")
  }
}
