import Foundation
import Shards

/// What a user asks for with `apus pretrain`.
package struct PretrainRequest: Sendable {
  package var recipe: Recipe
  /// Data sets by name.
  package var data: [String: String]
  /// Held-out images of the data sets, by the same names; where one is not given, the `test` in the data set's folder.
  package var heldOut: [String: String] = [:]
  /// The run's folder.
  package var run: String
  package var loaderThreads = 1
  /// Goes on although the data are others than the run's.
  package var force = false
  /// Trains from the start although the folder holds a run, which is set aside.
  package var restarts = false

  package init(recipe: Recipe, data: [String: String], run: String) {
    self.recipe = recipe
    self.data = data
    self.run = run
  }

  /// Starts the first stage from an encoder in safetensors.
  package mutating func start(from weights: String) throws(RecipeError) {
    guard recipe.stages[0].start.from == .nothing else {
      throw RecipeError(
        "--init gives the first stage \(weights) to start from, but the recipe says start: {from: "
          + "\(recipe.stages[0].start.from)}: leave one of them out")
    }
    recipe.stages[0].start = StageStart(from: .file(weights))
  }

  /// Reads `NAME=PATH`, or a plain path, which has the default name.
  /// - Parameter option: such as `--data`, for errors.
  /// - Throws: `RecipeError` where a name is given twice.
  package static func named(_ paths: [String], option: String) throws(RecipeError) -> [String: String] {
    var named: [String: String] = [:]
    for text in paths {
      var name = DataRecipe.defaultSet
      var path = text
      let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
      // A path may hold a `=` as well.
      if parts.count == 2, !parts[0].contains("/"), !FileManager.default.fileExists(atPath: text) {
        name = parts[0]
        path = parts[1]
      }
      guard !name.isEmpty, !path.isEmpty else {
        throw RecipeError("\(option) \(text): write it as \(option) PATH or \(option) NAME=PATH")
      }
      if let other = named[name] {
        throw RecipeError(
          "\(option) gives the data set `\(name)` twice, as \(other) and as \(path): "
            + "name the second one, \(option) NAME=\(path)")
      }
      named[name] = path
    }
    return named
  }
}
