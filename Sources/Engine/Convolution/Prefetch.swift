import CSystem

/// Floats of a cache line.
private let cacheLine = 16

/// What the next block needs, fetched into the cache in as many small portions as there are calls of the micro-kernel.
package struct Prefetch {
  private var first: UnsafePointer<Float>, second: UnsafePointer<Float>
  /// Floats from where `second` is to what is read together with it; nil for nothing.
  private let beside: Int?
  private let firstEnd: UnsafePointer<Float>, secondEnd: UnsafePointer<Float>
  private let firstStep: Int, secondStep: Int

  /// - Parameters:
  ///   - first: `count` floats that will be read.
  ///   - second: `secondCount` floats that may be written.
  ///   - third: as many floats as `second` that will be read.
  ///   - calls: portions.
  init(
    _ first: UnsafePointer<Float>, count: Int, and second: UnsafePointer<Float>, count secondCount: Int,
    and third: UnsafePointer<Float>? = nil, calls: Int
  ) {
    beside = third.map { $0 - second }
    self.first = first
    self.second = second
    firstEnd = first + count
    secondEnd = second + secondCount
    firstStep = pieces(pieces(count, of: cacheLine), of: calls) * cacheLine
    secondStep = pieces(pieces(secondCount, of: cacheLine), of: calls) * cacheLine
  }

  /// Nothing to fetch.
  package init(nothingBeside place: UnsafePointer<Float>) {
    self.init(place, count: 0, and: place, count: 0, calls: 1)
  }

  /// Asks for the next portion.
  @inline(__always)
  mutating func fetch() {
    let firstStop = min(first + firstStep, firstEnd)
    let secondStop = min(second + secondStep, secondEnd)
    while first < firstStop {
      csystem_prefetch(first)
      first += cacheLine
    }
    while second < secondStop {
      csystem_prefetch_to_write(second)
      if let beside { csystem_prefetch(second + beside) }
      second += cacheLine
    }
  }
}

/// The same for rows of a matrix that do not follow one another.
struct RowsPrefetch {
  private var from: UnsafePointer<Float>, end: UnsafePointer<Float>, left: Int
  private let ld: Int, width: Int, step: Int

  /// - Parameters:
  ///   - rows: the first row.
  ///   - count: rows.
  ///   - width: floats of a row.
  ///   - calls: portions.
  init(_ rows: Rows, count: Int, width: Int, calls: Int) {
    from = rows.first
    end = from + width
    left = count
    ld = rows.step
    self.width = width
    step = pieces(count * pieces(width, of: cacheLine), of: calls)
  }

  /// Asks for the next portion.
  @inline(__always)
  mutating func fetch() {
    var i = 0
    while i < step && left > 0 {
      csystem_prefetch(from)
      from += cacheLine
      if from >= end {
        from = end + (ld &- width)
        end += ld
        left &-= 1
      }
      i &+= 1
    }
  }
}
