import Engine
import Foundation

/// Weighted vote of the nearest training images: cosine similarity s of L2-normalised features, the k nearest vote for
/// their class with weight exp(s / T).
///
/// Wu, Xiong, Yu, Lin: Unsupervised Feature Learning via Non-Parametric Instance Discrimination (arXiv 1805.01978),
/// who take k = 200 and T = 0.07; T = 0.1 is the usual choice for later methods. Ties go to the earlier training image
/// and the lower class, so the result is one and the same on any number of ranks and threads.
package struct KNN: Evaluation {
  package static let name = "knn"
  package static let version = 1

  /// k; cut to the number of training images, and then said so.
  package var neighbours: Int
  /// T.
  package var temperature: Double
  package var title: String { "kNN, k = \(neighbours)" }

  package init(neighbours: Int = 200, temperature: Double = 0.1) {
    precondition(neighbours > 0 && temperature > 0, "k = \(neighbours), temperature \(temperature)")
    self.neighbours = neighbours
    self.temperature = temperature
  }

  package func workspace(_ job: EvaluationSize) -> Int {
    let k = min(neighbours, job.train)
    let blocks = (job.test / job.ranks + NeighbourSearch.queries) / NeighbourSearch.queries
    return NeighbourSearch.bytes(train: job.train, dimension: job.dimension, k: k, threads: job.threads)
      + 2 * blocks * job.classes * MemoryLayout<Int>.stride
  }

  package func run(train: FeatureTable, test: FeatureTable, on context: Context) throws -> EvaluationResult {
    let start = ContinuousClock().now
    try check(train, test)
    let k = min(neighbours, train.count)
    let classes = train.classCount
    let blocks = RowBlocks(rows: test.count, size: NeighbourSearch.queries)
    let share = blocks.share(of: context.communicator)
    let search = NeighbourSearch(train, k: k, threads: context.team.count)
    // By block and class, each block written by one thread.
    var top1 = [Int](repeating: 0, count: max(1, share.count) * classes)
    var top5 = top1
    top1.withUnsafeMutableBufferPointer { top1 in
      top5.withUnsafeMutableBufferPointer { top5 in
        let top1 = top1.baseAddress!
        let top5 = top5.baseAddress!
        context.run(share.count) { block, thread in
          let rows = blocks.rows(of: share.lowerBound + block)
          search.find(test, rows, thread: thread) { row, similarities, indices in
            let label = Int(test.labels[row])
            let place = self.place(of: label, similarities, indices, train)
            if place == 0 { top1[block * classes + label] += 1 }
            if place < 5 { top5[block * classes + label] += 1 }
          }
        }
      }
    }
    func sums(_ counts: [Int]) -> [Int] {
      (0..<classes).map { label in stride(from: label, to: counts.count, by: classes).reduce(0) { $0 + counts[$1] } }
    }
    return Classification(top1: sums(top1), top5: sums(top5)).result(
      of: self, train: train, test: test, options: ["k": .number(k), "temperature": .number(temperature)],
      notes: k < neighbours ? ["k was cut from \(neighbours) to \(k), the number of training images"] : [],
      since: start, context.communicator)
  }

  /// How many classes have more votes than `label` (or as many and a lower number); Int.max where it has none: a class
  /// that no neighbour has is not among the best five, even where fewer than five have votes. Programs that sort all
  /// classes by votes count such a class, if its number is low enough.
  private func place(
    of label: Int, _ similarities: UnsafeBufferPointer<Float>, _ indices: UnsafeBufferPointer<Int32>,
    _ train: FeatureTable
  ) -> Int {
    var votes = [Double](repeating: 0, count: train.classCount)
    for i in 0..<indices.count {
      votes[Int(train.labels[Int(indices[i])])] += exp(Double(similarities[i]) / temperature)
    }
    let own = votes[label]
    if own == 0 { return .max }
    return votes.indices.count { votes[$0] > own || (votes[$0] == own && $0 < label) }
  }
}
