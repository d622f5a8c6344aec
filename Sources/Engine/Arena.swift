import Foundation
import Limits

/// Memory for activations and workspace: two stacks that grow towards each other. The lower stack holds what backward
/// needs, with workspace on top; the upper one holds temporary maps. Backward can therefore release the lower stack
/// layer by layer while its gradients stay on the upper one.
///
/// A dry run of the recipe's largest step plans the size: the arena reserves address space, the dry run allocates from
/// it without touching the pages, and `seal()` makes the peak of both stacks together the limit. The step loop then
/// allocates nothing else.
package final class Arena {
  /// The heights of both stacks at a point in time, to return to.
  package struct Mark: BitwiseCopyable { fileprivate let lower: Int, upper: Int }

  private var base: UnsafeMutableRawPointer
  private var reserved: Int
  /// What is asked for, where addresses are not limited.
  private let wanted: Int
  /// Whether `ulimit` limits the addresses of this process. Then the arena takes a part of them only, and gives back
  /// what its plan leaves.
  private let isLimited: Bool
  private var lower = 0, upper = 0
  private var limit: Int
  /// The greatest sum of both heights so far, in bytes.
  package private(set) var peak = 0

  /// - Parameter reserving: bytes of address space, not of memory. Less is reserved where the system allows less.
  package init(reserving: Int = 1 << 40) {
    wanted = reserving
    isLimited = MemoryRoom.ofProcess() != nil
    (base, reserved) = Self.reserve(reserving)
    limit = reserved
  }

  deinit { munmap(base, reserved) }

  /// Addresses without memory behind them: half of what `ulimit` leaves is for others.
  private static func reserve(_ wanted: Int) -> (base: UnsafeMutableRawPointer, bytes: Int) {
    var size = MemoryRoom.ofProcess().map { min(wanted, Int($0.bytes) / 2) & ~0xFFF } ?? wanted
    var address = MAP_FAILED
    while size >= 1 << 20 {
      address = mmap(
        nil, size, PROT_READ | PROT_WRITE, Int32(MAP_PRIVATE) | Int32(MAP_ANONYMOUS) | Int32(MAP_NORESERVE), -1, 0)
      if address != MAP_FAILED { break }
      size = size / 2 & ~0xFFF
    }
    precondition(address != MAP_FAILED, "the system gives no address space: \(String(cString: strerror(errno)))")
    return (address!, size)
  }

  /// Ends the job with a message if a plan needs more address space than there is.
  private var refuse: ((_ bytes: Int) -> Never)?

  /// Makes the peak so far the limit: later steps get no more than the dry run asked for.
  package func seal() {
    precondition(upper == 0, "an arena sealed while its upper stack is in use")
    limit = peak
    refuse = nil
    let kept = max(1 << 12, (limit + 0xFFF) & ~0xFFF)
    if isLimited, kept < reserved {
      munmap(base + kept, reserved - kept)
      reserved = kept
    }
    // A step reads hundreds of megabytes in rows that are pages apart, which with small pages costs a translation for
    // each row. Not before this point, because the dry run touches a few pages. A kernel without huge pages refuses,
    // which is harmless.
    _ = madvise(base, limit, CInt(MADV_HUGEPAGE))
  }

  /// Starts a new plan, for a new stage.
  /// - Parameter refuse: called with the bytes of address space if the plan needs more: a recipe can ask for too much.
  package func unseal(refuse: ((_ bytes: Int) -> Never)? = nil) {
    precondition(lower == 0 && upper == 0, "an arena unsealed while \(lower) + \(upper) bytes are in use")
    if isLimited, reserved < wanted {
      munmap(base, reserved)
      (base, reserved) = Self.reserve(wanted)
    }
    limit = reserved
    peak = 0
    self.refuse = refuse
  }

  package func mark() -> Mark { Mark(lower: lower, upper: upper) }

  /// Whether nothing has been allocated on the lower stack since a mark.
  package func isLowerTop(_ mark: Mark) -> Bool { lower == mark.lower }

  /// Releases both stacks down to a mark; a stack that is below it already stays as it is.
  package func release(to mark: Mark) {
    lower = min(lower, mark.lower)
    upper = min(upper, mark.upper)
  }

  /// Releases the lower stack down to a mark, once backward has used what lies above.
  package func releaseLower(to mark: Mark) { lower = min(lower, mark.lower) }

  /// Releases the upper stack down to a mark.
  package func releaseUpper(to mark: Mark) { upper = min(upper, mark.upper) }

  /// Uninitialised memory for `count` trivial values on the lower stack, aligned to a cache line.
  package func array<T: BitwiseCopyable>(of type: T.Type, count: Int) -> UnsafeMutableBufferPointer<T> {
    let bytes = admit(count * MemoryLayout<T>.stride)
    lower += bytes
    return UnsafeMutableBufferPointer(
      start: (base + lower - bytes).bindMemory(to: T.self, capacity: count), count: count)
  }

  /// An uninitialised tensor on the lower stack.
  package func tensor(n: Int, h: Int = 1, w: Int = 1, c: Int) -> Tensor {
    Tensor(array(of: Float.self, count: n * h * w * c).baseAddress!, n: n, h: h, w: w, c: c)
  }

  /// A tensor of the same shape on the lower stack.
  package func tensor(like other: Tensor) -> Tensor { tensor(n: other.n, h: other.h, w: other.w, c: other.c) }

  /// A tensor on the upper stack.
  package func temporary(n: Int, h: Int = 1, w: Int = 1, c: Int) -> Tensor {
    upper += admit(n * h * w * c * MemoryLayout<Float>.stride)
    let data = (base + limit - upper).bindMemory(to: Float.self, capacity: n * h * w * c)
    return Tensor(data, n: n, h: h, w: w, c: c)
  }

  /// A tensor of the same shape on the upper stack.
  package func temporary(like other: Tensor) -> Tensor {
    temporary(n: other.n, h: other.h, w: other.w, c: other.c)
  }

  /// Rounds a request up to cache lines, and stops the program if there is no room for it.
  private func admit(_ request: Int) -> Int {
    let bytes = (request + 63) & ~63
    if bytes > limit - lower - upper, let refuse { refuse(reserved) }
    precondition(
      bytes <= limit - lower - upper,
      "the arena's plan has \(limit) bytes, but \(lower) + \(upper) + \(bytes) are needed: "
        + "the dry run missed this step's shape"
    )
    peak = max(peak, lower + upper + bytes)
    return bytes
  }
}
