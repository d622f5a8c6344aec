/// All views of one kind in a batch.
package struct ViewGroup {
  /// The recipe of this kind of view.
  package let recipe: ViewRecipe
  /// Channels of a view.
  package let channels: Int
  /// (recipe.count · images, size, size, channels): all images of view 0, then of view 1.
  package let pixels: UnsafeMutablePointer<Float>
  /// (recipe.count · images), in the order of `pixels`: the targets of a puzzle. Nil if the recipe has no puzzle.
  package let targets: UnsafeMutablePointer<Int32>?
  /// Number of values of a view.
  package var length: Int { recipe.size * recipe.size * channels }

  /// Allocates memory for the views of so many images.
  init(_ kind: Views.Kind, images: Int) {
    recipe = kind.recipe
    channels = kind.channels
    let views = recipe.count * images
    let count = views * recipe.size * recipe.size * channels
    let memory = UnsafeMutableRawPointer.allocate(byteCount: count * 4, alignment: 64)
    pixels = memory.bindMemory(to: Float.self, capacity: count)
    targets = kind.hasTargets ? .allocate(capacity: views) : nil
  }

  func deallocate() {
    pixels.deallocate()
    targets?.deallocate()
  }
}

/// A rank's share of a step's global batch. It belongs to the loader and is valid until `release`, after which the
/// loader reuses it for another step.
package final class Batch {
  /// Step and epoch, counted over the whole run.
  package private(set) var step = 0, epoch = 0
  /// Number of images in the global batch, and the positions in it of these images.
  package private(set) var globalCount = 0, positions = 0..<0
  /// Sample numbers, in order of position.
  package private(set) var samples: [Int] = []
  /// Classes, in order of position; -1 for none.
  package private(set) var labels: [Int32] = []
  /// The views, by kind.
  package let groups: [ViewGroup]
  /// Number of images here.
  package var count: Int { samples.count }

  init(groups: [ViewGroup]) { self.groups = groups }

  /// Describes a step whose pixels are complete.
  func show(
    step: Int, epoch: Int, globalCount: Int, positions: Range<Int>, samples: UnsafePointer<Int>,
    labels: UnsafePointer<Int32>
  ) {
    self.step = step
    self.epoch = epoch
    self.globalCount = globalCount
    self.positions = positions
    self.samples.removeAll(keepingCapacity: true)
    self.samples.append(contentsOf: UnsafeBufferPointer(start: samples, count: positions.count))
    self.labels.removeAll(keepingCapacity: true)
    self.labels.append(contentsOf: UnsafeBufferPointer(start: labels, count: positions.count))
  }
}
