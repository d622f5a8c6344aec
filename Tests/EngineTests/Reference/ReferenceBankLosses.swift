import Engine
import Foundation

private func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }

/// Reference implementations of the losses against a bank, scalar by scalar from the papers.
extension ReferenceLosses {
  /// AdCo, arXiv:2011.08435: contrast of queries with the keys of the batch, or each with its own key alone, and with
  /// the normalised rows of a bank; the mean over queries.
  /// - q: (B, D), normalised here. keys: (B, D), used as given. bank: (K, D), normalised here.
  static func adCo(_ q: Map, keys: Map, bank: Map, inBatch: Bool, temperature: Double) -> Double {
    let q = ReferenceLayers.normalise(q)
    let bank = ReferenceLayers.normalise(bank)
    var loss = 0.0
    for i in 0..<q.n {
      let others = (0..<keys.n).filter { inBatch || $0 == i }.map(keys.row) + (0..<bank.n).map(bank.row)
      let denominator = others.reduce(0) { $0 + exp(dot(q.row(i), $1) / temperature) }
      loss -= log(exp(dot(q.row(i), keys.row(i)) / temperature) / denominator)
    }
    return loss / Double(q.n)
  }

  /// Gradients of `adCo` by the queries and by the bank, before normalisation. Also Σ_i p_ik of every row, and the mean
  /// probability of other queries' keys.
  static func adCoGradient(
    _ q: Map, keys: Map, bank: Map, inBatch: Bool, temperature t: Double
  ) -> (q: Map, bank: Map, mass: [Double], inBatch: Double) {
    let unit = ReferenceLayers.normalise(q)
    let rows = ReferenceLayers.normalise(bank)
    var dq = Map(like: q)
    var dw = Map(like: bank)
    var mass = [Double](repeating: 0, count: bank.n)
    var others = 0.0
    for i in 0..<q.n {
      let x = unit.row(i)
      let onKeys = (0..<keys.n).map { inBatch || $0 == i ? exp(dot(x, keys.row($0)) / t) : 0 }
      let onBank = (0..<bank.n).map { exp(dot(x, rows.row($0)) / t) }
      let sum = onKeys.reduce(0, +) + onBank.reduce(0, +)
      others += (onKeys.reduce(0, +) - onKeys[i]) / sum
      for j in 0..<keys.n {
        let slope = (onKeys[j] / sum - (i == j ? 1 : 0)) / t / Double(q.n)
        for c in 0..<q.c { dq.values[i * q.c + c] += slope * keys.row(j)[c] }
      }
      for k in 0..<bank.n {
        mass[k] += onBank[k] / sum
        let slope = onBank[k] / sum / t / Double(q.n)
        for c in 0..<q.c {
          dq.values[i * q.c + c] += slope * rows.row(k)[c]
          dw.values[k * q.c + c] += slope * x[c]
        }
      }
    }
    return (
      ReferenceLayers.normaliseBackward(dq, q), ReferenceLayers.normaliseBackward(dw, bank), mass, others / Double(q.n)
    )
  }

  /// InstDisc, arXiv:1805.01978, eq. 5 to 7: contrast of every query with its drawn rows of a bank, of which the first
  /// is its own.
  /// - Parameters:
  ///   - z: Z, or nil for the softmax over the drawn rows.
  /// - Returns: the mean over queries.
  static func drawn(_ q: Map, bank: Map, _ rows: [[Int]], z: Double?, temperature t: Double) -> Double {
    let unit = ReferenceLayers.normalise(q)
    let k = Double(rows[0].count - 1)
    let n = Double(bank.n)
    let epsilon = 1e-7
    var loss = 0.0
    for (i, row) in rows.enumerated() {
      let e = row.map { exp(dot(unit.row(i), bank.row($0)) / t) }
      guard let z else {
        loss -= log(e[0] / e.reduce(0, +))
        continue
      }
      loss -= log(e[0] / z / (e[0] / z + k / n + epsilon))
      for c in 1..<e.count { loss -= log(k / n / (e[c] / z + k / n + epsilon)) }
    }
    return loss / Double(q.n)
  }

  /// Gradient of `drawn`, and Σ |∂L/∂s| of every query, times τ and the number of queries.
  static func drawnGradient(_ q: Map, bank: Map, _ rows: [[Int]], z: Double?, temperature t: Double) -> (
    q: Map, slopes: [Double]
  ) {
    let unit = ReferenceLayers.normalise(q)
    let k = Double(rows[0].count - 1)
    let n = Double(bank.n)
    let epsilon = 1e-7
    var d = Map(like: q)
    var slopes = [Double](repeating: 0, count: q.n)
    for (i, row) in rows.enumerated() {
      let e = row.map { exp(dot(unit.row(i), bank.row($0)) / t) }
      let sum = e.reduce(0, +)
      for (c, j) in row.enumerated() {
        var slope = e[c] / sum - (c == 0 ? 1 : 0)
        if let z {
          let p = e[c] / z
          let all = p + k / n + epsilon
          slope = c == 0 ? -(k / n + epsilon) / all : p / all
        }
        slopes[i] += abs(slope)
        for x in 0..<q.c { d.values[i * q.c + x] += slope / t / Double(q.n) * bank.row(j)[x] }
      }
    }
    return (ReferenceLayers.normaliseBackward(d, q), slopes)
  }

  /// N times the mean of exp(q·v/τ).
  static func partition(_ q: Map, bank: Map, _ rows: [[Int]], temperature t: Double) -> Double {
    let unit = ReferenceLayers.normalise(q)
    let all = rows.enumerated().flatMap { i, row in row.map { exp(dot(unit.row(i), bank.row($0)) / t) } }
    return all.reduce(0, +) / Double(all.count) * Double(bank.n)
  }
}
