import ArgumentParser
import Files
import Foundation

@main
struct Apus: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "apus",
    abstract: "Pre-trains image encoders without labels on CPU clusters.",
    subcommands: [
      PackCommand.self, ShardCommand.self, InspectCommand.self, RecipesCommand.self, PretrainCommand.self,
      FinetuneCommand.self, DistilCommand.self, PredictCommand.self, EvaluateCommand.self, ReportCommand.self,
      FigureCommand.self, ExportCommand.self, BenchCommand.self,
      ReplicasCommand.self,
    ])

  static func main() {
    Output.prepare()
    var isForOutput = false
    do {
      var command = try parseAsRoot()
      isForOutput = command is any PrintsResults
      try command.run()
      if isForOutput { try Output.check() }
    } catch {
      end(error, isForOutput)
    }
  }

  /// Exits with the error's message and status. If help or a table of results was printed, flushing it may fail too.
  private static func end(_ error: any Error, _ isForOutput: Bool) -> Never {
    let isHelp = exitCode(for: error) == .success
    if isHelp { print(fullMessage(for: error)) }
    if isHelp || isForOutput, !(error is OutputError) {
      do { try Output.check() } catch { exit(withError: error) }
    }
    if isHelp { Foundation.exit(0) }
    exit(withError: error)
  }
}

/// A command whose result is what it prints, so it fails if the output is lost. Other commands have then done their
/// work.
protocol PrintsResults: ParsableCommand {}
