import Ranks

/// Sums the gradients of all ranks in buckets from the slab's tail, while backward goes on to those before them. Only
/// what trains is sent.
///
/// Buckets lie at fixed places, so neither time nor the points at which backward reports change a sum's bits.
package final class GradientReducer {
  /// If false, nothing is sent before `finish`: the same bits, later.
  package var overlaps = true
  private let context: Context
  private let gradients: ParameterSlab
  /// From the slab's tail to its start.
  private let buckets: [Range<Int>]
  /// Gradients from here on are finished.
  private var finished: Int
  /// Buckets whose sums have begun.
  private var begun = 0

  /// - Parameter bucket: floats that are begun together; more than a sum holds are several.
  package init(_ context: Context, _ gradients: ParameterSlab, bucket: Int = SumQueue.floats) {
    precondition(bucket >= 1, "a bucket of \(bucket) floats")
    self.context = context
    self.gradients = gradients
    buckets = gradients.layout.trainedRanges.reversed().flatMap { range in
      stride(from: range.upperBound, to: range.lowerBound, by: -bucket).map { end in
        max(range.lowerBound, end - bucket)..<end
      }
    }
    finished = gradients.count
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
    begun = 0
  }

  /// Begins the sums of the buckets that are finished.
  private func begin() {
    while begun < buckets.count, buckets[begun].lowerBound >= finished {
      let bucket = buckets[begun]
      let sum = UnsafeMutableBufferPointer(start: gradients.data + bucket.lowerBound, count: bucket.count)
      context.beginSum(sum, "gradients")
      begun += 1
    }
  }
}
