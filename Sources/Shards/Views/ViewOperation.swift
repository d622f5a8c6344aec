/// One operation of a view, as a recipe lists it: `{flip: 0.5}`.
///
/// To add one, write a file with a type that conforms to `Framing` or `Augmentation`, and a row in `Operation.all`. An
/// operation that gives views a target conforms to `Puzzle` as well.
package protocol ViewOperation: Codable, Equatable, Sendable {
  /// The key in the recipe.
  static var name: String { get }
  /// Refuses what cannot work on such views, in words.
  /// - Parameter channels: what the operation gets.
  /// - Returns: what is left out because it does nothing to such data; empty where all of it applies.
  func validate(_ kind: ViewRecipe, channels: Int) throws(RecipeError) -> [String]
}

extension ViewOperation {
  /// Of operations with several options.
  package static var title: String { name }
}

/// The operation that a view begins with: which part of the image it shows.
package protocol Framing: ViewOperation {
  var interpolation: Interpolation { get }
  /// The part of a width × height image that fills a view of size × size. The key says which view of its kind it is;
  /// what all views of the kind have in common comes from `key.kindDraws`.
  func frame(width: Int, height: Int, size: Int, _ key: ViewKey) -> Frame
}

/// An operation on the pixels of a view.
package protocol Augmentation: ViewOperation {
  /// Changes the canvas in place. All its randomness comes from `key`, so the result is a pure function of it.
  func apply(to canvas: Canvas, _ key: ViewKey)
  /// The channels that are left: never more than it gets, in the canvas's first planes.
  /// - Parameter channels: those it gets. Each is a channel of the data set, or nil where an operation made it.
  func channels(of channels: [Int?]) -> [Int?]
  /// The operation with whatever it takes from the data set filled in.
  /// - Parameters: mean and deviation of the channels that it gets.
  func resolved(mean: [Double], deviation: [Double]) -> any Augmentation
}

extension Augmentation {
  package func channels(of channels: [Int?]) -> [Int?] { channels }
  package func resolved(mean: [Double], deviation: [Double]) -> any Augmentation { self }
}

/// An operation that a pretext task asks about: what it did to a view is the view's target.
package protocol Puzzle: ViewOperation {
  /// Targets are 0 ..< answers; 0 where the operation asks nothing.
  var answers: Int { get }
  /// The target of a view, from the key that `frame` or `apply` gets for it.
  func target(_ key: ViewKey) -> Int
}
