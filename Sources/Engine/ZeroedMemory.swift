import Foundation
import Ranks

/// Zeros that take memory only where they are written to: what is planned and then refused, or never used, costs
/// address space alone.
package final class ZeroedMemory {
  package let bytes: Int
  private let address: UnsafeMutableRawPointer

  /// Ends the job in words where the system gives no address space.
  /// - Parameters:
  ///   - bytes: at least 0. The memory begins on a page.
  ///   - purpose: what it is for, such as `a queue`.
  package init(bytes: Int, for purpose: String) {
    precondition(bytes >= 0, "\(bytes) bytes for \(purpose)")
    self.bytes = max(1, bytes)
    let flags = Int32(MAP_PRIVATE) | Int32(MAP_ANONYMOUS) | Int32(MAP_NORESERVE)
    let mapped = mmap(nil, self.bytes, PROT_READ | PROT_WRITE, flags, -1, 0)
    if mapped == MAP_FAILED {
      let reason = String(cString: strerror(errno))
      SingleProcess().abort(
        "error: the system gives no address space for the \((self.bytes + 0xF_FFFF) >> 20) MiB of \(purpose): "
          + "\(reason); make it smaller, take more ranks, or raise the limit (ulimit -v)", code: 1)
    }
    address = mapped!
  }

  deinit { munmap(address, bytes) }

  /// As values of a type; called once.
  package func bind<T: BitwiseCopyable>(to type: T.Type, count: Int) -> UnsafeMutableBufferPointer<T> {
    precondition(count * MemoryLayout<T>.stride <= bytes, "\(count) values in \(bytes) bytes")
    return UnsafeMutableBufferPointer(start: address.bindMemory(to: T.self, capacity: count), count: count)
  }
}
