/// All views of one kind in a batch.
package struct ViewGroup {
  package let recipe: ViewRecipe
  package let channels: Int
  /// (recipe.count · images, size, size, channels): all images of view 0, then of view 1.
  package let pixels: UnsafeMutablePointer<Float>
  /// (recipe.count · images), in the order of `pixels`: what a puzzle asks for. Nil where the recipe has none.
  package let targets: UnsafeMutablePointer<Int32>?
  /// Values of a view.
  package var length: Int { recipe.size * recipe.size * channels }

  /// Memory for the views of some images.
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

/// A rank's share of a step's global batch. All of it is the loader's, valid until `release`; another step's then.
package final class Batch {
  /// Counts over the whole run.
  package private(set) var step = 0, epoch = 0
  /// Images in the global batch, and which of its positions these are.
  package private(set) var globalCount = 0, positions = 0..<0
  /// Sample ids by image, in order of position.
  package private(set) var samples: [Int] = []
  /// -1 where there is none.
  package private(set) var labels: [Int32] = []
  package let groups: [ViewGroup]
  /// Images here.
  package var count: Int { samples.count }

  init(groups: [ViewGroup]) { self.groups = groups }

  /// Becomes a step's, whose pixels are there.
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
