/// All views of one image, prepared for a data set: which recipes, in which order, with everything resolved.
package struct Views: Sendable {
  /// One view: the recipe it belongs to, its index within it, and its operations.
  struct View: Sendable {
    let group: Int, index: Int, size: Int
    let framing: any Framing
    let augmentations: [(operation: any Augmentation, occurrence: Int)]
  }

  package let recipes: [ViewRecipe]
  package let channels: Int
  /// What recipes ask for and the data cannot show.
  package let notices: [String]
  let views: [View]

  /// - Throws: a recipe that cannot be run on such data.
  package init(_ recipes: [ViewRecipe], channels: Int, mean: [Double], deviation: [Double]) throws(RecipeError) {
    guard !recipes.isEmpty else { throw RecipeError("views: the list is empty; expected at least one kind of view") }
    var notices: [String] = []
    var views: [View] = []
    for (group, recipe) in recipes.enumerated() {
      for notice in try recipe.validate(channels: channels) where !notices.contains(notice) { notices.append(notice) }
      let augmentations = recipe.augmentations.map {
        ($0.operation.resolved(mean: mean, deviation: deviation), $0.occurrence)
      }
      for index in 0..<recipe.count {
        views.append(
          View(group: group, index: index, size: recipe.size, framing: recipe.framing, augmentations: augmentations))
      }
    }
    self.recipes = recipes
    self.channels = channels
    self.notices = notices
    self.views = views
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
  ///   - out: where a view goes, (size, size, channels), by group and index within it.
  package func make(
    _ bytes: UnsafeRawBufferPointer, _ record: ImageRecord, _ key: ViewKey, _ mode: DecodeMode,
    into out: (_ group: Int, _ index: Int) -> UnsafeMutablePointer<Float>
  ) throws {
    var key = key
    frames.removeAll(keepingCapacity: true)
    for (i, view) in views.views.enumerated() {
      key.view = i
      frames.append(view.framing.frame(width: record.width, height: record.height, size: view.size, key))
    }
    let decoded = try decode(bytes, record, mode)
    for (i, view) in views.views.enumerated() {
      let canvas = Canvas(size: view.size, channels: views.channels, in: workspace)
      canvas.fill(from: pixels, decoded.map(frames[i], pixels), view.framing.interpolation)
      key.view = i
      for (operation, occurrence) in view.augmentations {
        key.occurrence = occurrence
        operation.apply(to: canvas, key)
      }
      canvas.write(to: out(view.group, view.index))
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
    for (frame, view) in zip(frames, views.views) {
      let share = max(Double(union.width) / frame.width, Double(union.height) / frame.height)
      target = max(target, Double(view.size) * share)
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
