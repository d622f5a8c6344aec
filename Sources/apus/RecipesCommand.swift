import ArgumentParser
import Training

struct RecipesCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "recipes",
    abstract: "List the built-in recipes, show one, or say how two differ.",
    subcommands: [List.self, Show.self, Diff.self],
    defaultSubcommand: List.self)

  struct List: PrintsResults {
    static let configuration = CommandConfiguration(abstract: "List the built-in recipes.")
    func run() {
      let width = BuiltInRecipes.all.map(\.name.count).max() ?? 0
      for recipe in BuiltInRecipes.all {
        print(recipe.name.padding(toLength: width + 2, withPad: " ", startingAt: 0) + recipe.description)
      }
    }
  }

  struct Show: PrintsResults {
    static let configuration = CommandConfiguration(
      abstract: "Print a recipe with its comments; --resolved: with every default.")
    @Argument(help: "A recipe's name or file.") var recipe: String
    @Flag(help: "Every field, defaults filled in.") var resolved = false
    func run() throws { print(resolved ? try Recipe(recipe).yaml : try Recipe.text(of: recipe), terminator: "") }
  }

  struct Diff: PrintsResults {
    static let configuration = CommandConfiguration(abstract: "Say what differs between two recipes.")
    @Argument(help: "A recipe's name or file, such as a run's recipe.yaml.") var first: String
    @Argument(help: "Another recipe.") var second: String
    func run() throws {
      for line in try RecipeChanges.between(Recipe(first).yaml, Recipe(second).yaml) { print(line) }
    }
  }
}
