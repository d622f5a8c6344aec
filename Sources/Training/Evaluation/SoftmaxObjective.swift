import Engine
import Foundation

/// The objective of multinomial logistic regression: mean cross-entropy of softmax(x W + b) plus λ/2 ‖W‖². The bias is
/// not penalised. Rows are shared out over ranks in blocks; sums over blocks are in Double.
package final class SoftmaxObjective {
  package let dimension: Int
  package let classes: Int
  /// λ; may change between fits.
  package var penalty = 0.0
  /// (dimension + 1, classes): W, then b.
  package var parameterCount: Int { (dimension + 1) * classes }

  private let context: Context
  private let total: Int
  private let blocks: RowBlocks
  private let share: Range<Int>
  private let rows: UnsafeMutablePointer<Float>  // this rank's rows, (count, dimension)
  private let labels: [Int32]
  private let weights: UnsafeMutablePointer<Float>  // parameters as Float
  private let slots: [Slot]

  /// Rows of a block.
  static let block = 256

  /// Bytes that an objective takes beside its rows.
  static func bytes(_ job: EvaluationSize) -> Int {
    let parameters = (job.dimension + 1) * job.classes
    let slots = 2 * job.threads * (block * job.classes + parameters)
    return (slots + parameters) * MemoryLayout<Float>.stride
  }

  /// What one block leaves behind until it is merged in the blocks' order.
  private final class Slot {
    let logits: UnsafeMutablePointer<Float>  // (rows of a block, classes), then the residuals
    let gradient: UnsafeMutablePointer<Float>  // (dimension + 1, classes)
    var loss = 0.0
    var correct = 0
    init(rows: Int, dimension: Int, classes: Int) {
      logits = .allocate(capacity: rows * classes)
      gradient = .allocate(capacity: (dimension + 1) * classes)
    }
    deinit {
      logits.deallocate()
      gradient.deallocate()
    }
  }

  /// - Parameters:
  ///   - table: the features.
  ///   - selected: rows to take, over all ranks; each rank copies its share.
  ///   - scaling: applied to every row.
  package init(_ table: FeatureTable, rows selected: [Int], _ scaling: Standardisation, on context: Context) {
    dimension = table.dimension
    classes = table.classCount
    total = selected.count
    self.context = context
    blocks = RowBlocks(rows: selected.count, size: Self.block)
    share = blocks.share(of: context.communicator)
    let own = selected[blocks.rows(of: share)]
    let d = table.dimension
    rows = .allocate(capacity: max(1, own.count * d))
    labels = own.map { table.labels[$0] }
    for (i, row) in own.enumerated() { scaling.apply(table, row, into: rows + i * d) }
    weights = .allocate(capacity: (d + 1) * table.classCount)
    let slot = blocks.size
    slots = (0..<2 * context.team.count).map { _ in Slot(rows: slot, dimension: d, classes: table.classCount) }
  }

  deinit {
    rows.deallocate()
    weights.deallocate()
  }

  /// The objective and its gradient over all ranks' rows; the same bits on every rank.
  package func evaluate(_ parameters: [Double], gradient: inout [Double]) -> Double {
    precondition(parameters.count == parameterCount && gradient.count == parameterCount)
    for i in 0..<parameterCount { weights[i] = Float(parameters[i]) }
    var sums = [Double](repeating: 0, count: parameterCount + 1)  // gradient, then loss
    sums.withUnsafeMutableBufferPointer { sums in
      let sum = sums.baseAddress!
      let n = parameterCount
      forEachBlock({ self.differentiate($0, $1) }) { slot in
        for i in 0..<n { sum[i] += Double(slot.gradient[i]) }
        sum[n] += slot.loss
      }
      context.communicator.allReduce(sums, .sum, on: .control, "the probe's gradient")
    }
    let scale = 1 / Double(total)
    var loss = sums[parameterCount] * scale
    for i in 0..<parameterCount {
      let decay = i < dimension * classes ? penalty * parameters[i] : 0
      gradient[i] = sums[i] * scale + decay
      loss += 0.5 * decay * parameters[i]
    }
    return loss
  }

  /// Calls `work` for this rank's blocks on all threads and `merge` for their slots in the blocks' order.
  private func forEachBlock(_ work: (_ block: Int, _ slot: Slot) -> Void, _ merge: (Slot) -> Void) {
    for wave in stride(from: share.lowerBound, to: share.upperBound, by: slots.count) {
      let count = min(slots.count, share.upperBound - wave)
      context.run(count) { i, _ in work(wave + i, slots[i]) }
      for i in 0..<count { merge(slots[i]) }
    }
  }

  /// Local rows of a block.
  private func local(_ block: Int) -> Range<Int> {
    let rows = blocks.rows(of: block)
    let first = share.lowerBound * blocks.size
    return rows.lowerBound - first..<rows.upperBound - first
  }

  private func differentiate(_ block: Int, _ slot: Slot) {
    let own = local(block)
    let x = rows + own.lowerBound * dimension
    predict(own, slot)
    slot.loss = 0
    let bias = slot.gradient + dimension * classes
    bias.update(repeating: 0, count: classes)
    for (i, row) in own.enumerated() {
      slot.loss += subtractTarget(slot.logits + i * classes, label: Int(labels[row]))
      for c in 0..<classes { bias[c] += slot.logits[i * classes + c] }
    }
    sgemm(
      dimension, classes, own.count, x, lda: dimension, transposed: true, slot.logits, ldb: classes,
      into: slot.gradient, ldc: classes)
  }

  /// logits ← x W + b.
  private func predict(_ own: Range<Int>, _ slot: Slot) {
    let bias = weights + dimension * classes
    for i in 0..<own.count { (slot.logits + i * classes).update(from: bias, count: classes) }
    sgemm(
      own.count, classes, dimension, rows + own.lowerBound * dimension, lda: dimension, weights, ldb: classes,
      into: slot.logits, ldc: classes, beta: 1)
  }

  /// Turns logits into softmax minus target; returns the cross-entropy.
  private func subtractTarget(_ logits: UnsafeMutablePointer<Float>, label: Int) -> Double {
    var top = logits[0]
    for c in 1..<max(1, classes) { top = max(top, logits[c]) }
    let own = logits[label]
    var sum = 0.0
    for c in 0..<classes {
      logits[c] = exp(logits[c] - top)
      sum += Double(logits[c])
    }
    let scale = Float(1 / sum)
    for c in 0..<classes { logits[c] *= scale }
    logits[label] -= 1
    return log(sum) - Double(own - top)
  }

  /// Right answers by class, of this rank's rows: (the label has the largest logit, it is among the five largest). Ties
  /// go to the lower class.
  package func correct(_ parameters: [Double]) -> (top1: [Int], top5: [Int]) {
    for i in 0..<parameterCount { weights[i] = Float(parameters[i]) }
    var top1 = [Int](repeating: 0, count: classes)
    var top5 = top1
    for block in share {
      let own = local(block)
      let slot = slots[0]
      predict(own, slot)
      for (i, row) in own.enumerated() {
        let logits = slot.logits + i * classes
        let label = Int(labels[row])
        let own = logits[label]
        let place = (0..<classes).count { logits[$0] > own || (logits[$0] == own && $0 < label) }
        if place == 0 { top1[label] += 1 }
        if place < 5 { top5[label] += 1 }
      }
    }
    return (top1, top5)
  }
}
