/// One rank of a job that does not exist, for dry runs: what a rank would need is planned without the others. Nobody
/// answers, so a collective is a programmer's error.
package final class PretendedRanks: Communicator {
  package let rank: Int
  package let size: Int

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
