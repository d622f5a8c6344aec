import Foundation

private func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }

/// sim(u, v) = u·v/(‖u‖‖v‖)
private func similarity(_ u: [Double], _ v: [Double]) -> Double { dot(u, v) / (dot(u, u) * dot(v, v)).squareRoot() }

/// Reference implementations of the losses, scalar by scalar from the papers.
enum ReferenceLosses {
  /// SimCLR, arXiv:2002.05709, Algorithm 1. There, z₂ₖ₋₁ and z₂ₖ are the two views of image k.
  /// - z: (2B, D), all first views, then all second views.
  /// - queue: SimCLR v2's memory, (K, D), which adds terms to the denominator.
  static func ntXent(_ z: Map, queue: Map? = nil, temperature: Double) -> Double {
    let batch = z.n / 2
    // The paper's order, counted from 1.
    let paper = (1...2 * batch).map { i in z.row((i - 1) / 2 + (i % 2 == 0 ? batch : 0)) }
    func s(_ i: Int, _ j: Int) -> Double { similarity(paper[i - 1], paper[j - 1]) }
    func l(_ i: Int, _ j: Int) -> Double {
      var denominator = 0.0
      for k in 1...2 * batch where k != i { denominator += exp(s(i, k) / temperature) }
      for k in 0..<(queue?.n ?? 0) { denominator += exp(similarity(paper[i - 1], queue!.row(k)) / temperature) }
      return -log(exp(s(i, j) / temperature) / denominator)
    }
    var sum = 0.0
    for k in 1...batch { sum += l(2 * k - 1, 2 * k) + l(2 * k, 2 * k - 1) }
    return sum / Double(2 * batch)
  }

  /// dL/dz by the chain rule over the whole matrix of similarities.
  static func ntXentGradient(_ z: Map, queue: Map? = nil, temperature: Double) -> Map {
    let rows = z.n
    let unit = ReferenceLayers.normalise(z)
    var d = Map(like: z)
    for i in 0..<rows {
      let positive = (i + rows / 2) % rows
      let e = (0..<rows).map { $0 == i ? 0 : exp(dot(unit.row(i), unit.row($0)) / temperature) }
      let keys = (0..<(queue?.n ?? 0)).map { queue!.row($0) }
      let f = keys.map { exp(dot(unit.row(i), $0) / temperature) }
      let sum = e.reduce(0, +) + f.reduce(0, +)
      for (key, f) in zip(keys, f) {
        for k in 0..<z.c { d.values[i * z.c + k] += f / sum / Double(rows) / temperature * key[k] }
      }
      for j in 0..<rows where j != i {
        let dLogit = (e[j] / sum - (j == positive ? 1 : 0)) / Double(rows) / temperature
        for k in 0..<z.c {
          d.values[i * z.c + k] += dLogit * unit.values[j * z.c + k]
          d.values[j * z.c + k] += dLogit * unit.values[i * z.c + k]
        }
      }
    }
    return ReferenceLayers.normaliseBackward(d, z)
  }

  /// MoCo, arXiv:1911.05722, Algorithm 1: logits of the positive and of the queue, cross-entropy with label 0.
  /// - q: (N, D), normalised here. k: (N, D) and queue: (Q, D), used as given.
  static func infoNCE(_ q: Map, keys k: Map, queue: Map, temperature: Double) -> Double {
    let q = ReferenceLayers.normalise(q)
    var loss = 0.0
    for n in 0..<q.n {
      let positive = dot(q.row(n), k.row(n))
      let logits = [positive] + (0..<queue.n).map { dot(q.row(n), queue.row($0)) }
      let denominator = logits.reduce(0) { $0 + exp($1 / temperature) }
      loss += -log(exp(logits[0] / temperature) / denominator)
    }
    return loss / Double(q.n)
  }

  static func infoNCEGradient(_ q: Map, keys k: Map, queue: Map, temperature: Double) -> Map {
    let unit = ReferenceLayers.normalise(q)
    var d = Map(like: q)
    for n in 0..<q.n {
      let candidates = [k.row(n)] + (0..<queue.n).map(queue.row)
      let e = candidates.map { exp(dot(unit.row(n), $0) / temperature) }
      let sum = e.reduce(0, +)
      for (j, candidate) in candidates.enumerated() {
        let dLogit = (e[j] / sum - (j == 0 ? 1 : 0)) / Double(q.n) / temperature
        for i in 0..<q.c { d.values[n * q.c + i] += dLogit * candidate[i] }
      }
    }
    return ReferenceLayers.normaliseBackward(d, q)
  }
}
