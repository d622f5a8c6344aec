/// Cross-entropy of class scores with labels, as torch.nn.CrossEntropyLoss writes it, with label smoothing ε (Szegedy
/// et al. 2016, arXiv:1512.00567) and class weights w:
///
///     L = 1/Σ_i w_{y_i} · Σ_i [ (1 − ε)·w_{y_i}·(−log p_{i,y_i}) + ε/K · Σ_k w_k·(−log p_ik) ],   p = softmax(s)
///
/// A batch whose images all weigh nothing has no loss and no gradient; torch has NaN.
package struct SoftmaxCrossEntropy {
  /// ε
  package let smoothing: Double
  /// w by class; nil where all are 1.
  package let weights: [Double]?

  package init(smoothing: Double = 0, weights: [Double]? = nil) {
    self.smoothing = smoothing
    self.weights = weights
  }

  /// Σ w_{y_i} over the global batch.
  /// - Parameters:
  ///   - labels: of this rank's images, each in 0 ..< K.
  ///   - count: images of the global batch.
  package func total(_ labels: [Int32], count: Int, _ context: Context) -> Double {
    guard weights != nil else { return Double(count) }
    var sums = ClassificationSums()
    for label in labels { sums.rows += weight(Int(label)) }
    sums.allReduce(context)
    return sums.rows
  }

  /// - Parameters:
  ///   - scores: (n, K) of this rank, or of a part of its images; becomes their gradient.
  ///   - label: of a row, in 0 ..< K.
  ///   - total: Σ w_{y_i} over the global batch.
  /// - Returns: the sums over all ranks.
  package func apply(
    _ scores: Tensor, total: Double, _ context: Context, label: (_ row: Int) -> Int
  ) -> ClassificationSums {
    let k = scores.c
    precondition(weights == nil || weights!.count == k, "\(weights!.count) class weights for \(k) classes")
    let all = weights?.reduce(0, +) ?? Double(k)
    let scale = total > 0 ? 1 / total : 0
    var sums: ClassificationSums = context.sum(rows: scores.n) { index in
      let label = label(index)
      let s = scores.data + index * k
      let row = ScoreRow(s, count: k)
      let own = (1 - smoothing) * weight(label) * scale
      let spread = smoothing / Double(k) * scale
      var sums = ClassificationSums()
      sums.rows = 1
      sums.labelled = 1
      sums.correct = row.largest == label ? 1 : 0
      sums.loss = -own * row.logarithm(label)
      if smoothing > 0 { for c in 0..<k { sums.loss -= spread * weight(c) * row.logarithm(c) } }
      let slope = own + spread * all
      for c in 0..<k {
        // The row reads the scores, so each is replaced after its last use.
        let target = spread * weight(c) + (c == label ? own : 0)
        s[c] = Float(slope * row.probability(c) - target)
      }
      return sums
    }
    sums.allReduce(context)
    return sums
  }

  private func weight(_ k: Int) -> Double { weights?[k] ?? 1 }
}
