import Foundation

/// Every crop predicts the codes of the assigned crops, except its own. Caron et al. 2020, arXiv:2006.09882, eq. 2
/// and 6; reference facebookresearch/swav, `main_swav.py`:
///
///     L = 1/A Σ_{a<A} 1/(V−1) Σ_{v≠a} 1/B Σ_i −Σ_k q⁽ᵃ⁾_ik · log p⁽ᵛ⁾_ik,   p = softmax(S/τ)
///
/// The first A of the V crops are assigned. No gradient flows to the codes q.
package struct SwappedPrediction {
  /// τ
  package let temperature: Float

  /// The loss at a temperature.
  package init(temperature: Float) { self.temperature = temperature }

  /// - Parameters:
  ///   - scores: (V·n, K) scores of this rank, ordered by crop; becomes their gradient.
  ///   - codes: (A·n, K) assignments of the first A crops; rows sum to 1.
  ///   - n: images of this rank.
  ///   - count: images in the global batch.
  /// - Returns: the statistics over all ranks, one row per image. `correct` is the share of an image's predictions
  ///   whose largest entry is the code's.
  package func apply(
    _ scores: Tensor, codes: Tensor, images n: Int, count: Int, _ context: Context
  ) -> LossStatistics {
    let crops = n == 0 ? 0 : scores.n / n
    let assigned = n == 0 ? 0 : codes.n / n
    precondition(
      codes.c == scores.c && scores.n == crops * n && codes.n == assigned * n && assigned <= crops,
      "scores \(scores.shape), codes \(codes.shape), \(n) images")
    let weight = 1 / (Double(max(1, assigned)) * Double(max(1, crops - 1)))
    var statistics = context.sum(rows: scores.n) { row in
      let crop = row / n
      let others = Codes(codes, images: n, image: row % n, crop: crop, assigned: assigned)
      let s = scores.data + row * scores.c
      let (logSum, nearest) = softmax(s, count: scores.c)
      let statistics = compare(s, logSum, nearest: nearest, others, weight: weight)
      slopes(s, logSum, others, scale: weight / (Double(temperature) * Double(count)))
      return statistics
    }
    statistics.rows = Double(n)
    statistics.allReduce(context)
    return statistics
  }

  /// The codes that one crop of an image predicts.
  private struct Codes {
    private let codes: Tensor
    private let images: Int
    private let image: Int
    private let crop: Int
    private let assigned: Int

    init(_ codes: Tensor, images: Int, image: Int, crop: Int, assigned: Int) {
      self.codes = codes
      self.images = images
      self.image = image
      self.crop = crop
      self.assigned = assigned
    }

    /// K
    var width: Int { codes.c }
    /// Number of codes.
    var count: Int { assigned - (crop < assigned ? 1 : 0) }

    @inline(__always) func visit(_ body: (UnsafeMutablePointer<Float>) -> Void) {
      for a in 0..<assigned where a != crop { body(codes.data + (a * images + image) * codes.c) }
    }
  }

  /// log Σ exp(s/τ), and the index of the largest entry.
  private func softmax(_ s: UnsafeMutablePointer<Float>, count k: Int) -> (logSum: Double, nearest: Int) {
    var largest = -Float.infinity
    var nearest = 0
    for j in 0..<k where s[j] > largest {
      largest = s[j]
      nearest = j
    }
    var sum = 0.0
    for j in 0..<k { sum += exp(Double((s[j] - largest) / temperature)) }
    return (log(sum) + Double(largest / temperature), nearest)
  }

  /// The weighted cross-entropies of a prediction with its codes.
  private func compare(
    _ s: UnsafeMutablePointer<Float>, _ logSum: Double, nearest: Int, _ codes: Codes, weight: Double
  ) -> LossStatistics {
    var statistics = LossStatistics()
    codes.visit { q in
      var top = 0
      var cross = 0.0
      for j in 0..<codes.width {
        if q[j] > q[top] { top = j }
        cross += Double(q[j]) * (logSum - Double(s[j] / temperature))
      }
      statistics.loss += cross * weight
      statistics.correct += top == nearest ? weight : 0
    }
    return statistics
  }

  /// Replaces s by dL/dS = Σ_a (p − q⁽ᵃ⁾) · scale.
  private func slopes(_ s: UnsafeMutablePointer<Float>, _ logSum: Double, _ codes: Codes, scale: Double) {
    let targets = Double(codes.count)
    for j in 0..<codes.width {
      var sum = 0.0
      codes.visit { sum += Double($0[j]) }
      let p = exp(Double(s[j] / temperature) - logSum)
      s[j] = Float(scale * (targets * p - sum))
    }
  }
}
