/// A student learns a teacher's class probabilities, and labels where there are some. Hinton, Vinyals, Dean 2015,
/// arXiv:1503.02531; SimCLR v2, arXiv:2006.10029, eq. 2 and 3, with T of both and sums over the batch divided by B:
///
///     L = α·f/B · Σ_i −Σ_k q_ik·log p_ik(T) + (1 − α)/B · Σ_{i labelled} −log p_{i,y_i}(1)
///     q = softmax(t/T),  p(T) = softmax(s/T)
///
/// f is 1 or T²: Hinton's factor, which keeps the gradient's size where T is raised, and which the reference's notebook
/// has. No gradient flows to the teacher's scores t.
package struct Distillation {
  /// T
  package let temperature: Double
  /// α
  package let alpha: Double
  /// f
  package let factor: Double

  /// - Parameter squared: whether f is T².
  package init(temperature: Double = 1, alpha: Double = 1, squared: Bool = false) {
    self.temperature = temperature
    self.alpha = alpha
    factor = squared ? temperature * temperature : 1
  }

  /// - Parameters:
  ///   - scores: (n, K) of the student on this rank, or of a part of its images; becomes their gradient.
  ///   - teacher: the teacher's, of the same images.
  ///   - count: images of the global batch.
  ///   - label: of a row, in 0 ..< K, or −1 for none.
  /// - Returns: the sums over all ranks.
  package func apply(
    _ scores: Tensor, teacher: Tensor, count: Int, _ context: Context, label: (_ row: Int) -> Int
  ) -> ClassificationSums {
    precondition(scores.hasShape(of: teacher), "scores of a student \(scores.shape), of a teacher \(teacher.shape)")
    let k = scores.c
    let soft = alpha * factor / Double(count)
    let hard = (1 - alpha) / Double(count)
    var sums: ClassificationSums = context.sum(rows: scores.n) { index in
      let label = label(index)
      let s = scores.data + index * k
      let p = ScoreRow(s, count: k, temperature: temperature)
      let q = ScoreRow(teacher.data + index * k, count: k, temperature: temperature)
      let plain = ScoreRow(s, count: k)
      var sums = ClassificationSums()
      sums.rows = 1
      sums.agreeing = p.largest == q.largest ? 1 : 0
      if label >= 0 {
        sums.labelled = 1
        sums.correct = p.largest == label ? 1 : 0
        sums.loss -= hard * plain.logarithm(label)
      }
      for c in 0..<k {
        // The rows read the scores, so each is replaced after its last use.
        let target = q.probability(c)
        sums.loss -= soft * target * p.logarithm(c)
        var slope = soft / temperature * (p.probability(c) - target)
        if label >= 0 { slope += hard * (plain.probability(c) - (c == label ? 1 : 0)) }
        s[c] = Float(slope)
      }
      return sums
    }
    sums.allReduce(context)
    return sums
  }
}
