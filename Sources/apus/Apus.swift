import ArgumentParser

@main
struct Apus: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "apus",
    abstract: "Pre-trains image encoders without labels on CPU clusters.",
    subcommands: [
      PackCommand.self, ShardCommand.self, InspectCommand.self, RecipesCommand.self, PretrainCommand.self,
      EvaluateCommand.self, ReportCommand.self, FigureCommand.self, ExportCommand.self, BenchCommand.self,
      TraceCommand.self,
    ])
}
