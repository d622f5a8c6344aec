/// One rank of an imaginary job, for dry runs that plan what a rank of a larger job would need. A collective is a
/// programmer's error, because there are no other ranks.
package final class PretendedRanks: Communicator {
  package let rank: Int
  package let size: Int

  /// Rank `rank` of `size` ranks.
  package init(_ rank: Int, of size: Int) {
    precondition(0 <= rank && rank < size, "rank \(rank) of \(size)")
    self.rank = rank
    self.size = size
  }

  private func refuse(_ purpose: CollectivePurpose) -> Never { preconditionFailure("a dry run exchanges \(purpose)") }

  package func allReduce(
    _: UnsafeMutableBufferPointer<Float>, _: Reduction, on _: Channel, _ purpose: CollectivePurpose
  ) {
    refuse(purpose)
  }
  package func allReduce(
    _: UnsafeMutableBufferPointer<Double>, _: Reduction, on _: Channel, _ purpose: CollectivePurpose
  ) {
    refuse(purpose)
  }
  package func allReduce(
    _: UnsafeMutableBufferPointer<Int64>, _: Reduction, on _: Channel, _ purpose: CollectivePurpose
  ) {
    refuse(purpose)
  }
  package func allGather(
    _: UnsafePointer<Float>, rows _: [Int], width _: Int, into _: UnsafeMutablePointer<Float>,
    _ purpose: CollectivePurpose
  ) { refuse(purpose) }
  package func broadcast(_: UnsafeMutableRawBufferPointer, from _: Int, _ purpose: CollectivePurpose) {
    refuse(purpose)
  }
  package func barrier() { refuse("a barrier") }
  package func abort(_ message: String, code: Int32) -> Never { fatalError(message) }
}
