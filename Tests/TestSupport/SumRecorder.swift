import Ranks

/// One of two identical ranks. Records which ranges are summed and when. Sums are computed in `finishSums`, as late as
/// possible.
final class SumRecorder: Communicator {
  let rank = 0
  let size = 2
  var sums: [UnsafeMutableBufferPointer<Float>] = []
  private(set) var under: [UnsafeMutableBufferPointer<Float>] = []
  var isSumming: Bool { !under.isEmpty }

  func beginSum(_ data: UnsafeMutableBufferPointer<Float>, _: CollectivePurpose) {
    sums.append(data)
    under.append(data)
  }

  func finishSums() {
    for data in under { for i in data.indices { data[i] *= 2 } }
    under = []
  }

  func allReduce(_: UnsafeMutableBufferPointer<Float>, _: Reduction, on _: Channel, _: CollectivePurpose) {
    preconditionFailure("gradients travel by beginSum")
  }
  func allReduce(_: UnsafeMutableBufferPointer<Double>, _: Reduction, on _: Channel, _: CollectivePurpose) {}
  func allReduce(_: UnsafeMutableBufferPointer<Int64>, _: Reduction, on _: Channel, _: CollectivePurpose) {}
  func allGather(
    _: UnsafePointer<Float>, rows _: [Int], width _: Int, into _: UnsafeMutablePointer<Float>, _: CollectivePurpose
  ) {}
  func broadcast(_: UnsafeMutableRawBufferPointer, from _: Int, _: CollectivePurpose) {}
  func barrier() {}
  func abort(_: String, code _: Int32) -> Never { preconditionFailure() }
}
