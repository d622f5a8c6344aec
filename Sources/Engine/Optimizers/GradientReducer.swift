import Ranks

/// Sums the gradients of all ranks in buckets from the slab's tail, while backward goes on to those before them.
///
/// Buckets lie at fixed places, so neither time nor the points at which backward reports change a sum's bits.
package final class GradientReducer {
  /// Without it nothing travels before `finish`: the same bits, later.
  package var overlaps = true
  private let context: Context
  private let gradients: ParameterSlab
  private let bucket: Int
  /// Gradients from here on are finished.
  private var finished: Int
  /// Gradients from here on are under way.
  private var begun: Int

  /// - Parameter bucket: floats that are begun together; more than a sum holds are several.
  package init(_ context: Context, _ gradients: ParameterSlab, bucket: Int = SumQueue.floats) {
    precondition(bucket >= 1, "a bucket of \(bucket) floats")
    self.context = context
    self.gradients = gradients
    self.bucket = bucket
    finished = gradients.count
    begun = gradients.count
  }

  /// Backward has finished every gradient from `offset` to the slab's end.
  package func ready(from offset: Int) {
    precondition(
      offset <= finished, "gradients from \(offset) are ready, but those from \(finished) were ready already")
    finished = offset
    if overlaps { begin() }
  }

  /// Sums what is left, waits for all of it, and starts over for the next step.
  package func finish() {
    finished = 0
    begin()
    context.finishSums()
    finished = gradients.count
    begun = gradients.count
  }

  /// Begins the sums of the buckets that are finished.
  private func begin() {
    while begun > 0, max(0, begun - bucket) >= finished {
      let next = max(0, begun - bucket)
      context.beginSum(UnsafeMutableBufferPointer(start: gradients.data + next, count: begun - next), "gradients")
      begun = next
    }
  }
}
