import Foundation
import Shards
import Testing
import Training

/// The README and the pages of `Training.docc` agree with the program.
@Suite struct PagesTests {
  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()
  static let pages = "Sources/Training/Training.docc/"

  /// The README and every page, relative to the project's folder.
  static func documents() throws -> [String] {
    let names = try FileManager.default.contentsOfDirectory(atPath: root.path + "/" + pages)
    return ["README.md"] + names.filter { $0.hasSuffix(".md") }.sorted().map { pages + $0 }
  }

  static func text(_ document: String) throws -> String {
    try String(contentsOf: root.appendingPathComponent(document), encoding: .utf8)
  }

  /// The words in backticks in one column of the table under a heading.
  func names(in page: String, under heading: String, column: Int = 0) throws -> [String] {
    let lines = try Self.text(Self.pages + page + ".md").split(separator: "\n", omittingEmptySubsequences: false)
    let section = lines.drop { $0 != heading }.dropFirst().prefix { !$0.hasPrefix("## ") }
    let rows = section.filter { $0.hasPrefix("| ") }
    #expect(rows.count > 1, "\(page) has no table under \(heading)")
    return rows.dropFirst().flatMap { row in
      let cells = row.split(separator: "|", omittingEmptySubsequences: false)
      return cells[column + 1].matches(of: /`([^`]+)`/).map { String($0.output.1) }
    }
  }

  @Test func metricsAreDescribedAsTheProgramDescribesThem() throws {
    #expect(try Self.text(Self.pages + "RunFolderAndMetrics.md").contains(Metrics.markdown + "\n"))
  }

  @Test func builtInRecipesAreListed() throws {
    #expect(try names(in: "Recipes", under: "## Built in").sorted() == BuiltInRecipes.names)
  }

  @Test func operationsAreListed() throws {
    #expect(try names(in: "Recipes", under: "## Operations").sorted() == Shards.Operation.all.map { $0.name }.sorted())
  }

  @Test func methodsAreListed() throws {
    #expect(try names(in: "Training", under: "## Overview", column: 1).sorted() == Methods.all.map { $0.name }.sorted())
  }

  @Test func protocolsAreListed() throws {
    let protocols = Set(Evaluations.all.map { type(of: $0).identifier })
    #expect(Set(try names(in: "EvaluationProtocols", under: "## Overview")) == protocols)
  }

  /// The annotated recipe has exactly the fields of a recipe.
  @Test func everyFieldOfARecipeIsExplained() throws {
    let page = try Self.text(Self.pages + "Recipes.md")
    let yaml = try #require(page.firstMatch(of: /```yaml\n([\s\S]*?)```/)).output.1
    let explained = try Recipe(yaml: String(yaml), from: "Recipes.md")
    let known = Set(try explained.yaml.matches(of: /([A-Za-z0-9]+):/).map { String($0.output.1) })
    let named = Set(yaml.matches(of: /([A-Za-z0-9]+):/).map { String($0.output.1) })
    #expect(known.subtracting(named).isEmpty, "not explained: \(known.subtracting(named).sorted())")
  }

  /// The map of folders lists exactly the folders with sources.
  @Test func theMapOfFoldersIsWhole() throws {
    let sources = try #require(FileManager.default.enumerator(atPath: Self.root.path + "/Sources"))
    let files = sources.compactMap { $0 as? String }.filter { $0.hasSuffix(".swift") || $0.hasSuffix(".c") }
    let folders = Set(files.map { "Sources/" + ($0 as NSString).deletingLastPathComponent })
    #expect(try names(in: "Architecture", under: "## Folders").sorted() == folders.sorted())
  }

  /// Paths in the pages exist.
  @Test(arguments: try documents()) func pathsThatAreNamedExist(document: String) throws {
    for match in try Self.text(document).matches(of: /(?:Sources|Tests|Scripts|slurm)\/[A-Za-z0-9_\/.+-]*[A-Za-z0-9]/) {
      let path = String(match.output)
      // NAME is a placeholder.
      if path.contains("NAME") { continue }
      #expect(FileManager.default.fileExists(atPath: Self.root.path + "/" + path), "\(document) names \(path)")
    }
  }

  @Test(arguments: try documents()) func linksLeadSomewhere(document: String) throws {
    let text = try Self.text(document)
    let folder = Self.root.appendingPathComponent(document).deletingLastPathComponent()
    for match in text.matches(of: /\]\(([^)#\s]+)(#[^)]*)?\)/) where !match.output.1.hasPrefix("https://") {
      let target = folder.appendingPathComponent(String(match.output.1)).standardizedFileURL.path
      #expect(FileManager.default.fileExists(atPath: target), "\(document) links to \(match.output.1)")
    }
  }

  @Test func everyPageIsListed() throws {
    let index = try Self.text(Self.pages + "Training.md")
    let readme = try Self.text("README.md")
    for document in try Self.documents().dropFirst() where !document.hasSuffix("/Training.md") {
      let page = document.dropFirst(Self.pages.count)
      #expect(index.contains("](\(page))"), "Training.md does not list \(page)")
      #expect(page.hasSuffix("-page.md") || readme.contains("](\(document))"), "the README does not list \(page)")
    }
  }

  @Test func theREADMEStaysShort() throws {
    #expect(try Self.text("README.md").split(separator: "\n", omittingEmptySubsequences: false).count <= 201)
  }
}
