import Foundation

/// A stack of activations and workspace.
///
/// Its plan comes from a dry run of the recipe's largest step: the arena reserves address space, the dry run allocates
/// from it without touching it, and `seal()` makes the peak the limit. The step loop then allocates nothing.
package final class Arena {
  /// A height of the stack to return to.
  package struct Mark { fileprivate let used: Int }

  private let base: UnsafeMutableRawPointer
  private let reserved: Int
  private var used = 0
  private var limit: Int
  /// The greatest height so far, in bytes.
  package private(set) var peak = 0

  /// - Parameter reserving: bytes of address space, not of memory. Less is reserved where the system allows less.
  package init(reserving: Int = 1 << 40) {
    var size = reserving
    var address = MAP_FAILED
    while size >= 1 << 20 {
      address = mmap(
        nil, size, PROT_READ | PROT_WRITE, Int32(MAP_PRIVATE) | Int32(MAP_ANONYMOUS) | Int32(MAP_NORESERVE), -1, 0)
      if address != MAP_FAILED { break }
      size /= 2
    }
    precondition(address != MAP_FAILED, "the system gives no address space: \(String(cString: strerror(errno)))")
    base = address!
    (reserved, limit) = (size, size)
  }

  deinit { munmap(base, reserved) }

  /// Ends the job in words where a plan asks for more than there is.
  private var refuse: ((_ bytes: Int) -> Never)?

  /// Makes the peak so far the limit: what the dry run did not ask for is not there.
  package func seal() { (limit, refuse) = (peak, nil) }

  /// Makes room for a new plan, for a new stage.
  /// - Parameter refuse: called with the address space that there is where the plan needs more: a user can ask for that.
  package func unseal(refuse: ((_ bytes: Int) -> Never)? = nil) {
    precondition(used == 0, "an arena unsealed while \(used) bytes are in use")
    (limit, peak, self.refuse) = (reserved, 0, refuse)
  }

  package func mark() -> Mark { Mark(used: used) }

  package func release(to mark: Mark) {
    precondition(mark.used <= used, "an arena released to a mark above its top")
    used = mark.used
  }

  /// Memory for `count` trivial values, aligned to a cache line, with whatever it held before.
  package func array<T: BitwiseCopyable>(of type: T.Type, count: Int) -> UnsafeMutableBufferPointer<T> {
    let bytes = (count * MemoryLayout<T>.stride + 63) & ~63
    if bytes > limit - used, let refuse { refuse(reserved) }
    precondition(
      bytes <= limit - used,
      "the arena's plan has \(limit) bytes, but \(used) + \(bytes) are needed: the dry run missed this step's shape")
    let pointer = (base + used).bindMemory(to: T.self, capacity: count)
    used += bytes
    peak = max(peak, used)
    return UnsafeMutableBufferPointer(start: pointer, count: count)
  }

  package func tensor(n: Int, h: Int = 1, w: Int = 1, c: Int) -> Tensor {
    Tensor(array(of: Float.self, count: n * h * w * c).baseAddress!, n: n, h: h, w: w, c: c)
  }

  /// A tensor of the same shape.
  package func tensor(like other: Tensor) -> Tensor { tensor(n: other.n, h: other.h, w: other.w, c: other.c) }
}
