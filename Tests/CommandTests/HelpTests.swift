import Foundation
import Testing

extension ShortCommandTests {
  /// Help texts and lists of recipes.
  @Suite final class HelpTests {
    let work: Workplace
    init() throws { work = try Workplace() }

    /// Every command with its arguments and options. A new one must be added here and have a help text.
    static let commands: [(words: [String], names: Set<String>)] = [
      (
        ["pack"],
        [
          "<source>", "<out>", "--split", "--limit", "--shard-size", "--on-bad", "--channels", "--like", "--labels",
          "--class-names", "--unknown-classes", "--unlabelled", "--root", "--threads", "--force",
        ]
      ),
      (["shard"], ["<input>", "<out>", "--split", "--shard-size", "--force"]),
      (["inspect"], ["<path>", "--verify", "--threads"]),
      (["recipes"], []),
      (["recipes", "show"], ["<recipe>", "--resolved"]),
      (["recipes", "diff"], ["<first>", "<second>"]),
      (
        ["pretrain"],
        [
          "<recipe>", "--data", "--run", "--test", "--init", "--set", "--threads", "--loader-threads", "--force",
          "--restart",
        ]
      ),
      (
        ["finetune"],
        [
          "<path>", "--data", "--run", "--test", "--set", "--threads", "--loader-threads", "--force", "--restart",
          "--labels", "--layers", "--recipe",
        ]
      ),
      (
        ["distil"],
        [
          "<path>", "--data", "--run", "--test", "--set", "--threads", "--loader-threads", "--force", "--restart",
          "--encoder", "--width", "--labels", "--recipe",
        ]
      ),
      (["predict"], ["<path>", "<images>", "--step", "--stage", "--threads"]),
      (
        ["evaluate"],
        [
          "<path>", "--data", "--test", "--recipe", "--step", "--stage", "--limit", "--test-limit", "--only",
          "--skip-unknown",
          "--threads",
        ]
      ),
      (["report"], ["<path>", "--data"]),
      (["figure"], ["<points>", "<out>", "--title", "--summary"]),
      (["export"], ["<path>", "<out>", "--step", "--stage", "--probe", "--encoder", "--data"]),
      (["bench"], []),
      (["bench", "views"], ["<recipe>", "--data", "--set", "--loader-threads", "--seconds", "--json"]),
      (
        ["bench", "step"],
        [
          "--recipe", "--set", "--arch", "--width", "--size", "--channels", "--images", "--classes", "--steps",
          "--threads", "--method", "--group", "--exact", "--exchange", "--layers", "--json", "--turns",
        ]
      ),
      (
        ["bench", "features"],
        [
          "--arch", "--width", "--size", "--channels", "--images", "--classes", "--steps", "--threads", "--exact",
          "--exchange", "--layers", "--json", "--turns",
        ]
      ),
      (
        ["replicas", "make"],
        ["<recipe>", "--data", "--out", "--stage", "--steps", "--perturb", "--control", "--set", "--threads"]
      ),
      (["replicas", "compare"], ["<base>", "<others>", "--ulp", "--control", "--bound", "--move"]),
    ]

    /// Names at the start of indented lines, with the description that follows on the line or below it.
    private func entries(_ help: String) -> [(name: String, words: String)] {
      let lines = help.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
      return lines.indices.compactMap { i in
        guard let match = lines[i].firstMatch(of: /^  (?:-h, )?(--[a-z-]+|<[a-z-]+>)(?: <[a-z-]+>)?(?: \.\.\.)?(.*)$/)
        else { return nil }
        var words = String(match.2).trimmingCharacters(in: .whitespaces)
        if words.isEmpty, i + 1 < lines.count, lines[i + 1].hasPrefix("      ") {
          words = lines[i + 1].trimmingCharacters(in: .whitespaces)
        }
        return (String(match.1), words)
      }
    }

    @Test(arguments: commands.indices) func everyOptionIsExplained(_ index: Int) throws {
      let (words, names) = Self.commands[index]
      let outcome = try Job(words + ["--help"], in: work.path).outcome()
      #expect(outcome.status == 0 && outcome.output.contains("OVERVIEW: "), "\(outcome.output)")
      #expect(outcome.output.contains("USAGE: apus " + words.joined(separator: " ")))
      let entries = entries(outcome.output)
      #expect(Set(entries.map(\.name)) == names.union(["--help"]), "\(outcome.output)")
      for entry in entries { #expect(!entry.words.isEmpty, "\(entry.name) has no words: \(outcome.output)") }
    }

    @Test func theProgramListsItsCommands() throws {
      let help = try work("--help")
      #expect(help.status == 0 && help.output.contains("Pre-trains image encoders without labels on CPU clusters."))
      for command in Set(Self.commands.map { $0.words[0] }) {
        #expect(help.output.contains(try Regex("\n  \(command) +\\S")), "\(command) is not listed: \(help.output)")
      }
      let unknown = try work("pretrian")
      #expect(unknown.status == 64 && unknown.output.contains("pretrian"), "\(unknown.output)")
      let option = try work("pretrain", "simclr-v1-fashion", "--data", "d", "--run", "r", "--fource")
      #expect(
        option.status == 64 && option.output.contains("Unknown option '--fource'. Did you mean '--force'?"),
        "\(option.output)")
      let missing = try work("pretrain", "simclr-v1-fashion", "--data", "d")
      #expect(
        missing.status == 64 && missing.output.contains("Missing expected argument '--run <run>'"), "\(missing.output)")
    }

    @Test func recipesAreListedShownAndCompared() throws {
      let list = try work("recipes")
      #expect(list.status == 0)
      let names = [
        "moco-v2-fashion", "moco-v2-imagenet", "simclr-v1-fashion", "simclr-v1-imagenet", "simclr-v2-graytiles",
        "simclr-v2-imagenet",
      ]
      for name in names {
        #expect(list.output.contains(try Regex("(?m)^\(name) +\\S")), "\(list.output)")
        let shown = try work("recipes", "show", name, "--resolved")
        #expect(shown.status == 0 && shown.output.contains("\noptimizer: {name: "), "\(shown.output)")
        // The resolved recipe is equivalent to the original.
        let file = work.path + "/\(name).yaml"
        try shown.output.write(toFile: file, atomically: true, encoding: .utf8)
        let same = try work("recipes", "diff", name, file)
        #expect(same.status == 0 && same.output.isEmpty, "\(same.output)")
      }
      let diff = try work("recipes", "diff", Workplace.recipe("simclr"), Workplace.recipe("moco"))
      #expect(diff.status == 0 && diff.output.contains("method.name: simclr → moco\n"), "\(diff.output)")
      #expect(
        diff.output.contains("method.queue: not there → 100\n") && !diff.output.contains("batch:"), "\(diff.output)")
      let none = try work("recipes", "show", "simclr-v1-fasion")
      #expect(none.status == 1 && none.output.contains("did you mean `simclr-v1-fashion`?"), "\(none.output)")
    }
  }
}
