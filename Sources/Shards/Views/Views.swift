/// All views of one image, prepared for a data set: which recipes, in which order, with everything resolved.
package struct Views: Sendable {
  /// How the draws of an operation are keyed.
  struct Keying: Sendable {
    /// Operations of the same name before it.
    let occurrence: Int
    /// Whether all views of the kind share its draws.
    let isSame: Bool
  }

  /// A kind of view.
  package struct Kind: Sendable {
    package let recipe: ViewRecipe
    /// Of the finished views.
    package let channels: Int
    /// Its first view, counted over all views of a sample.
    let first: Int
    let framing: (operation: any Framing, keying: Keying)
    let augmentations: [(operation: any Augmentation, keying: Keying, channels: Int)]
    let puzzle: (operation: any Puzzle, keying: Keying)?
    /// Whether its views have targets.
    package var hasTargets: Bool { puzzle != nil }

    /// The key of an operation of the view that is number `index` of the kind.
    func key(_ sample: ViewKey, index: Int, _ keying: Keying) -> ViewKey {
      var key = sample
      key.first = first
      key.index = index
      key.count = recipe.count
      key.view = keying.isSame ? first : first + index
      key.occurrence = keying.occurrence
      return key
    }

    /// The target of the view that is number `index` of the kind; -1 where it has none.
    /// - Parameter sample: seed, epoch, step and sample; the view is filled in.
    package func target(index: Int, _ sample: ViewKey) -> Int {
      guard let puzzle else { return -1 }
      return puzzle.operation.target(key(sample, index: index, puzzle.keying))
    }
  }

  package let kinds: [Kind]
  /// Of the data.
  package let channels: Int
  /// What recipes ask for and the data cannot show.
  package let notices: [String]

  /// - Throws: a recipe that cannot be run on such data.
  package init(_ recipes: [ViewRecipe], channels: Int, mean: [Double], deviation: [Double]) throws(RecipeError) {
    guard !recipes.isEmpty else { throw RecipeError("views: the list is empty; expected at least one kind of view") }
    var notices: [String] = []
    var kinds: [Kind] = []
    var first = 0
    for recipe in recipes {
      for notice in try recipe.validate(channels: channels) where !notices.contains(notice) { notices.append(notice) }
      kinds.append(Kind(recipe, first: first, mean: mean, deviation: deviation))
      first += recipe.count
    }
    self.kinds = kinds
    self.channels = channels
    self.notices = notices
  }
}

extension Views.Kind {
  /// - Parameters:
  ///   - first: number of its first view.
  ///   - mean, deviation: by channel of the data.
  init(_ recipe: ViewRecipe, first: Int, mean: [Double], deviation: [Double]) {
    var framing: (any Framing, Views.Keying) = (Centre(), Views.Keying(occurrence: 0, isSame: false))
    var augmentations: [(any Augmentation, Views.Keying, Int)] = []
    var puzzle: (any Puzzle, Views.Keying)?
    var channels: [Int?] = Array(mean.indices)
    for (body, occurrence) in recipe.resolved(mean: mean, deviation: deviation).numbered {
      let keying = Views.Keying(occurrence: occurrence, isSame: recipe.same.contains(type(of: body).name))
      if let operation = body as? any Framing { framing = (operation, keying) }
      if let operation = body as? any Augmentation {
        channels = operation.channels(of: channels)
        augmentations.append((operation, keying, channels.count))
      }
      if let operation = body as? any Puzzle, operation.answers > 0 { puzzle = (operation, keying) }
    }
    self.recipe = recipe
    self.first = first
    self.framing = framing
    self.augmentations = augmentations
    self.puzzle = puzzle
    self.channels = channels.count
  }
}

/// How much of an encoded image is decoded.
package enum DecodeMode: String, Codable, CaseIterable, Sendable {
  /// All of it, at full size.
  case full
  /// Only what the views show, and smaller where that keeps twice a view's size (JPEG).
  case scaled
}

/// A thread's means to make views: decoder, pixels, scratch memory.
package final class ViewMaker {
  private let views: Views
  private var decoder: ImageDecoder, pixels = Pixels(), frames: [Frame] = []
  package let workspace = Workspace()

  package init(_ views: Views) {
    self.views = views
    decoder = ImageDecoder(channels: views.channels)
  }

  /// Decodes an image once and makes all its views.
  /// - Parameters:
  ///   - key: seed, epoch, step and sample; the view is filled in.
  ///   - out: where a view goes, (size, size, channels of its kind), by kind and index within it.
  package func make(
    _ bytes: UnsafeRawBufferPointer, _ record: ImageRecord, _ key: ViewKey, _ mode: DecodeMode,
    into out: (_ group: Int, _ index: Int) -> UnsafeMutablePointer<Float>
  ) throws {
    frames.removeAll(keepingCapacity: true)
    for kind in views.kinds {
      for index in 0..<kind.recipe.count {
        frames.append(
          kind.framing.operation.frame(
            width: record.width, height: record.height, size: kind.recipe.size,
            kind.key(key, index: index, kind.framing.keying)))
      }
    }
    let decoded = try decode(bytes, record, mode)
    for (group, kind) in views.kinds.enumerated() {
      for index in 0..<kind.recipe.count {
        var canvas = Canvas(size: kind.recipe.size, channels: views.channels, in: workspace)
        canvas.fill(from: pixels, decoded.map(frames[kind.first + index], pixels), kind.framing.operation.interpolation)
        for (operation, keying, channels) in kind.augmentations {
          operation.apply(to: canvas, kind.key(key, index: index, keying))
          canvas.channels = channels
        }
        canvas.write(to: out(group, index))
      }
    }
  }

  private func decode(
    _ bytes: UnsafeRawBufferPointer, _ record: ImageRecord, _ mode: DecodeMode
  ) throws -> DecodedRegion {
    guard mode == .scaled else {
      return try decoder.decode(bytes, record, region: nil, target: nil, scaled: false, into: &pixels)
    }
    let union = frames.dropFirst().reduce(frames[0].clip) { $0.union($1.clip) }
    // The decoder looks at the union; the view that shows the least of it decides.
    var target = 1.0
    for kind in views.kinds {
      for frame in frames[kind.first..<kind.first + kind.recipe.count] {
        let share = max(Double(union.width) / frame.width, Double(union.height) / frame.height)
        target = max(target, Double(kind.recipe.size) * share)
      }
    }
    return try decoder.decode(
      bytes, record, region: union, target: Int(target.rounded(.up)), scaled: true, into: &pixels)
  }
}

extension DecodedRegion {
  /// A frame of the upright image in the coordinates of what was decoded.
  func map(_ frame: Frame, _ pixels: Pixels) -> Frame {
    let left = x
    let top = y
    let clip = frame.clip
    let scale = 1 / step
    func clamp(_ value: Double, _ limit: Int) -> Int { min(max(0, Int(value)), limit) }
    let x0 = clamp((scale * (Double(clip.x) - left)).rounded(.down), pixels.width - 1)
    let y0 = clamp((scale * (Double(clip.y) - top)).rounded(.down), pixels.height - 1)
    let x1 = clamp((scale * (Double(clip.x + clip.width) - left)).rounded(.up), pixels.width)
    let y1 = clamp((scale * (Double(clip.y + clip.height) - top)).rounded(.up), pixels.height)
    return Frame(
      x: scale * (frame.x - left), y: scale * (frame.y - top), width: scale * frame.width,
      height: scale * frame.height,
      clip: PixelRect(x: x0, y: y0, width: max(1, x1 - x0), height: max(1, y1 - y0)))
  }
}

extension PixelRect {
  /// The smallest rectangle around both.
  func union(_ other: PixelRect) -> PixelRect {
    let left = min(x, other.x)
    let top = min(y, other.y)
    return PixelRect(
      x: left, y: top, width: max(x + width, other.x + other.width) - left,
      height: max(y + height, other.y + other.height) - top)
  }
}
