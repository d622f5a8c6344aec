import Foundation
import Testing

extension ShortCommandTests {
  /// The README's statements about the program.
  @Suite struct ReadmeTests {
    @Test func everyCommandIsListed() throws {
      let readme = try String(contentsOfFile: Job.root + "/README.md", encoding: .utf8)
      let listed = readme.matches(of: /(?m)^\| `apus ([a-z]+)` \| \S/).map { String($0.output.1) }
      let help = try Workplace()("--help").output
      let subcommands = try #require(help.split(separator: "SUBCOMMANDS:\n", maxSplits: 1).last)
      let offered = subcommands.matches(of: /(?m)^  ([a-z]+)\s/).map { String($0.output.1) }
      #expect(listed.count > 5 && listed.sorted() == offered.sorted())
    }

    @Test func everyBuiltInRecipeThatIsNamedIsThere() throws {
      let list = try Workplace()("recipes").output
      for file in ["README.md", "slurm/pretrain.sbatch", "Scripts/quickstart"] {
        let text = try String(contentsOfFile: Job.root + "/" + file, encoding: .utf8)
        for match in text.matches(of: /(?:pretrain |RECIPE=)([a-z0-9]+-[a-z0-9-]+)/) {
          #expect(
            list.contains("\n\(match.output.1) ") || list.hasPrefix("\(match.output.1) "), "\(file): \(match.output.1)")
        }
      }
    }
  }
}
