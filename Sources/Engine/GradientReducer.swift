/// Sums the gradients of all ranks in buckets from the slab's tail, as backward finishes them.
package final class GradientReducer {
  private let context: Context
  private let gradients: ParameterSlab
  private let bucket: Int
  /// Gradients from here on are reduced.
  private var reduced: Int

  /// - Parameter bucket: floats that are worth a collective.
  package init(_ context: Context, _ gradients: ParameterSlab, bucket: Int = 1 << 22) {
    self.context = context
    self.gradients = gradients
    self.bucket = bucket
    reduced = gradients.count
  }

  /// Backward has finished every gradient from `offset` to the slab's end.
  package func ready(from offset: Int) {
    precondition(offset <= reduced, "gradients from \(offset) are ready, but those from \(reduced) were reduced already")
    if reduced - offset >= bucket { reduce(from: offset) }
  }

  /// Reduces what is left and starts over for the next step.
  package func finish() {
    if reduced > 0 { reduce(from: 0) }
    reduced = gradients.count
  }

  private func reduce(from offset: Int) {
    context.part(.communication) {
      context.allReduce(
        UnsafeMutableBufferPointer(start: gradients.data + offset, count: reduced - offset), on: .gradients, "gradients")
    }
    reduced = offset
  }
}
