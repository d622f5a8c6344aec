import ArgumentParser
import Files
import Foundation
import Limits

@main
struct Apus: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "apus",
    abstract: "Pre-trains image encoders without labels on CPU clusters.",
    subcommands: [
      PackCommand.self, ShardCommand.self, InspectCommand.self, RecipesCommand.self, PretrainCommand.self,
      EvaluateCommand.self, ReportCommand.self, FigureCommand.self, ExportCommand.self, BenchCommand.self,
      ReplicasCommand.self,
    ])

  static func main() {
    Output.prepare()
    ProcessLimits.raiseOpenFiles()
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

  /// Ends with the error's words and status. Help is printed, and so is a table of results before a status that judges
  /// them: either may be lost.
  private static func end(_ error: any Error, _ isForOutput: Bool) -> Never {
    let isHelp = exitCode(for: error) == .success
    if isHelp { print(fullMessage(for: error)) }
    if isHelp || isForOutput, !(error is FileError) {
      do { try Output.check() } catch { exit(withError: error) }
    }
    if isHelp { Foundation.exit(0) }
    exit(withError: error)
  }
}

/// A command whose purpose is what it prints: where that is lost, it has failed. Others have done their work then.
protocol PrintsResults: ParsableCommand {}
