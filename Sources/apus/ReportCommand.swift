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
      for notice in try Exhibits.refresh(path, data: DataSet(at: Trainer.paths(data, nil).train)) { print(notice) }
    }
    try Report.write(try ReportContent(run: path), to: RunFolder(path).report)
    print("The report is \(RunFolder(path).report)")
  }
}
