import Engine

/// Exact search for the k training rows of largest cosine similarity, by blocked matrix products.
///
/// Each thread has scratch of its own; two threads may search at once.
package final class NeighbourSearch: @unchecked Sendable {
  /// Queries of one matrix product.
  static let queries = 64
  /// Training rows of one matrix product: its result stays in the second-level cache.
  private static let candidates = 1024

  private let train: FeatureTable
  private let k: Int
  /// 1 / ‖row‖; 0 for a row without a direction.
  private let inverse: [Float]
  private let scratch: [Scratch]

  private final class Scratch {
    let query: UnsafeMutablePointer<Float>  // (queries, dimension)
    let products: UnsafeMutablePointer<Float>  // (queries, candidates)
    let similarities: UnsafeMutablePointer<Float>  // (queries, k) heaps
    let indices: UnsafeMutablePointer<Int32>  // (queries, k)
    init(dimension: Int, k: Int) {
      query = .allocate(capacity: NeighbourSearch.queries * dimension)
      products = .allocate(capacity: NeighbourSearch.queries * NeighbourSearch.candidates)
      similarities = .allocate(capacity: NeighbourSearch.queries * k)
      indices = .allocate(capacity: NeighbourSearch.queries * k)
    }
    deinit {
      query.deallocate()
      products.deallocate()
      similarities.deallocate()
      indices.deallocate()
    }
  }

  /// - Parameter k: neighbours of a query, at most the number of training rows.
  package init(_ train: FeatureTable, k: Int, threads: Int = 1) {
    precondition(0 < k && k <= train.count, "\(k) neighbours among \(train.count) rows")
    self.train = train
    self.k = k
    let d = train.dimension
    inverse = train.features.withUnsafeBufferPointer { features in
      (0..<train.count).map { inverseNorm(features.baseAddress! + $0 * d, d) }
    }
    scratch = (0..<threads).map { _ in Scratch(dimension: d, k: k) }
  }

  /// Bytes that a search takes beside the table.
  static func bytes(train: Int, dimension: Int, k: Int, threads: Int) -> Int {
    let scratch = queries * (dimension + candidates + 2 * k)
    return (train + threads * scratch) * MemoryLayout<Float>.stride
  }

  /// Calls `body` for each of at most `queries` rows with its neighbours, the nearest first, ties by the lower index.
  package func find(
    _ test: FeatureTable, _ rows: Range<Int>, thread: Int = 0,
    _ body: (_ row: Int, _ similarities: UnsafeBufferPointer<Float>, _ indices: UnsafeBufferPointer<Int32>) -> Void
  ) {
    precondition(rows.count <= Self.queries && test.dimension == train.dimension)
    let d = train.dimension
    let scratch = scratch[thread]
    normalise(test, rows, into: scratch.query)
    var held = 0
    train.features.withUnsafeBufferPointer { features in
      for first in stride(from: 0, to: train.count, by: Self.candidates) {
        let n = min(Self.candidates, train.count - first)
        sgemm(
          rows.count, n, d, scratch.query, lda: d, transposed: false,
          features.baseAddress! + first * d, ldb: d, transposed: true, into: scratch.products, ldc: n)
        for row in 0..<rows.count {
          admit(scratch.products + row * n, first: first, count: n, held: held, scratch, row)
        }
        held = min(k, held + n)
      }
    }
    for row in 0..<rows.count {
      sort(scratch.similarities + row * k, scratch.indices + row * k)
      body(
        rows.lowerBound + row, UnsafeBufferPointer(start: scratch.similarities + row * k, count: k),
        UnsafeBufferPointer(start: scratch.indices + row * k, count: k))
    }
  }

  private func normalise(_ test: FeatureTable, _ rows: Range<Int>, into query: UnsafeMutablePointer<Float>) {
    let d = train.dimension
    test.features.withUnsafeBufferPointer { features in
      for row in rows {
        let source = features.baseAddress! + row * d
        let target = query + (row - rows.lowerBound) * d
        let scale = inverseNorm(source, d)
        for i in 0..<d { target[i] = source[i] * scale }
      }
    }
  }

  /// Takes candidates in rising order of their index: an equal one never displaces an earlier one.
  private func admit(
    _ products: UnsafePointer<Float>, first: Int, count: Int, held: Int, _ scratch: Scratch, _ row: Int
  ) {
    let similarities = scratch.similarities + row * k
    let indices = scratch.indices + row * k
    inverse.withUnsafeBufferPointer { inverse in
      let inverse = inverse.baseAddress! + first
      let fill = min(count, k - held)
      for i in 0..<fill {
        similarities[held + i] = products[i] * inverse[i]
        indices[held + i] = Int32(truncatingIfNeeded: first + i)
      }
      if fill > 0, held + fill == k {
        for root in stride(from: k / 2 - 1, through: 0, by: -1) { sink(similarities, indices, root, k) }
      }
      for i in fill..<max(fill, count) {
        let similarity = products[i] * inverse[i]
        if similarity > similarities[0] {
          similarities[0] = similarity
          indices[0] = Int32(truncatingIfNeeded: first + i)
          sink(similarities, indices, 0, k)
        }
      }
    }
  }

  /// The heap's root is the worst: least similar, then last.
  private func sink(
    _ similarities: UnsafeMutablePointer<Float>, _ indices: UnsafeMutablePointer<Int32>, _ from: Int, _ count: Int
  ) {
    func worse(_ a: Int, _ b: Int) -> Bool {
      similarities[a] < similarities[b] || (similarities[a] == similarities[b] && indices[a] > indices[b])
    }
    var root = from
    while true {
      var child = 2 &* root &+ 1
      if child >= count { return }
      if child &+ 1 < count, worse(child &+ 1, child) { child &+= 1 }
      if !worse(child, root) { return }
      swap(&similarities[root], &similarities[child])
      swap(&indices[root], &indices[child])
      root = child
    }
  }

  private func sort(_ similarities: UnsafeMutablePointer<Float>, _ indices: UnsafeMutablePointer<Int32>) {
    for last in stride(from: k - 1, to: 0, by: -1) {
      swap(&similarities[0], &similarities[last])
      swap(&indices[0], &indices[last])
      sink(similarities, indices, 0, last)
    }
  }
}

/// 1 / ‖x‖ with the sum in Double; 0 where the length is 0 or too small to have a direction.
private func inverseNorm(_ x: UnsafePointer<Float>, _ count: Int) -> Float {
  var sum = 0.0
  for i in 0..<count { sum += Double(x[i]) * Double(x[i]) }
  let norm = sum.squareRoot()
  return norm < 1e-30 ? 0 : Float(1 / norm)
}
