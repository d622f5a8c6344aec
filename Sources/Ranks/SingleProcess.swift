import CMPI

/// One process: every collective is the identity.
package final class SingleProcess: Communicator {
  /// Rank 0 of 1.
  package init() {}
  package var rank: Int { 0 }
  package var size: Int { 1 }
  package func allReduce(_: UnsafeMutableBufferPointer<Float>, _: Reduction, on _: Channel, _: CollectivePurpose) {}
  package func allReduce(_: UnsafeMutableBufferPointer<Double>, _: Reduction, on _: Channel, _: CollectivePurpose) {}
  package func allReduce(_: UnsafeMutableBufferPointer<Int64>, _: Reduction, on _: Channel, _: CollectivePurpose) {}
  package func allGather(
    _ send: UnsafePointer<Float>, rows: [Int], width: Int, into receive: UnsafeMutablePointer<Float>,
    _: CollectivePurpose
  ) {
    receive.update(from: send, count: rows[0] * width)
  }
  package func broadcast(_: UnsafeMutableRawBufferPointer, from _: Int, _: CollectivePurpose) {}
  package func barrier() {}
  package func abort(_ message: String, code: Int32) -> Never { cmpi_abort(message, code) }
}
