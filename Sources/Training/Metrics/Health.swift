import Foundation
import Ranks
import Shards

/// Health figures of a batch of embeddings: whether they spread over the sphere or collapse.
package struct EmbeddingHealth: Sendable, Equatable {
  /// Mean over dimensions of the embeddings' standard deviation, times √d: 1 if they are spread evenly over the sphere,
  /// 0 if they have collapsed to a point.
  package var deviation: Double
  /// exp of the entropy of the covariance's eigenvalues, 1 ... d: how many dimensions are in use. 0 for a point. Nil if
  /// no LAPACK is linked.
  ///
  /// Roy, Vetterli: The Effective Rank (2007).
  package var effectiveRank: Double?
  /// Mean cosine of an image's two views; nil with one view.
  package var positiveSimilarity: Double?
  /// Mean cosine of different images; nil with one image.
  package var negativeSimilarity: Double?
  /// d, the dimension of an embedding.
  package var dimension: Int

  /// - Parameters:
  ///   - first: (count, dimension), rows of length 1.
  ///   - second: the same images' other views, or nil.
  package init(_ first: UnsafePointer<Float>, _ second: UnsafePointer<Float>? = nil, count: Int, dimension d: Int) {
    precondition(count > 0 && d > 0, "(\(count), \(d)) embeddings")
    dimension = d
    let mean = columnSums(first, count, d).map { $0 / Double(count) }
    var variance = [Double](repeating: 0, count: d)
    for row in 0..<count {
      for i in 0..<d {
        let distance = Double(first[row * d + i]) - mean[i]
        variance[i] += distance * distance
      }
    }
    deviation = variance.reduce(0) { $0 + ($1 / Double(count)).squareRoot() } / Double(d).squareRoot()
    effectiveRank = rank(of: first, mean, count, d)
    let other = second ?? first
    var pairs = 0.0
    for i in 0..<count * d { pairs += Double(first[i]) * Double(other[i]) }
    positiveSimilarity = second == nil ? nil : pairs / Double(count)
    if count > 1 {
      // Σ over i ≠ j of zᵢ·z′ⱼ = (Σ zᵢ)·(Σ z′ⱼ) − Σ zᵢ·z′ᵢ.
      let sums = columnSums(other, count, d)
      let all = zip(mean, sums).reduce(0) { $0 + $1.0 * $1.1 } * Double(count)
      negativeSimilarity = (all - pairs) / (Double(count) * Double(count - 1))
    }
  }

  /// Warnings, each with a remedy; empty for a healthy run.
  /// - Parameters:
  ///   - outcome: this step's outcome.
  ///   - method: gives the remedies.
  package func warnings(_ outcome: Outcome, method: any MethodRecipe) -> [String] {
    var found: [(symptom: Symptom, words: String)] = []
    let candidates = outcome.figures[.candidates]
    if let words = outcome.guessing { found.append((.guessing, words)) }
    if deviation < 0.1 {
      found.append(
        (.point, "the embeddings are collapsing: their deviation is \(fixed(deviation, 3)) of an even spread's"))
    }
    if dimension > 2, let effectiveRank, effectiveRank < max(1.5, 0.02 * Double(dimension)) {
      found.append(
        (.line, "the embeddings use \(fixed(effectiveRank, 1)) of \(dimension) dimensions: the rest has collapsed"))
    }
    if let entropy = outcome.figures[.entropy], let candidates, entropy < 0.2 * log(candidates) {
      found.append(
        (.prototypes, "the embeddings share \(fixed(exp(entropy), 1)) of \(Int(candidates)) prototypes"))
    }
    return found.map { "\($0.words): \(method.remedy($0.symptom))" }
  }
}

extension Outcome {
  /// Says that the loss is what guessing gives; nil where it is not.
  fileprivate var guessing: String? {
    guard let chance, chance > 0, abs(loss - chance) < 0.01 * chance else { return nil }
    let logarithm = figures[.candidates].map { chance == log($0) ? "ln(\(Int($0))) = " : "" } ?? ""
    return "the loss \(fixed(loss, 3)) sits at \(logarithm)\(fixed(chance, 3)), what guessing gives"
  }

  /// Warnings of a classifier, which has no embeddings, each with a remedy; empty for a healthy run.
  package func warnings(method: any MethodRecipe) -> [String] {
    var words = guessing
    if let chance, loss > 2 * chance {
      words = "the loss \(fixed(loss, 3)) is far above \(fixed(chance, 3)), what guessing gives"
    }
    return words.map { ["\($0): \(method.remedy(.guessing))"] } ?? []
  }
}

/// A failure that the health figures of a run can show.
package enum Symptom: CaseIterable, Sendable {
  /// The loss stays at `Outcome.chance`, the loss of guessing.
  case guessing
  /// The embeddings collapse to a point: their deviation goes to 0.
  case point
  /// The embeddings collapse to a line: their effective rank goes to 1.
  case line
  /// The embeddings share few prototypes.
  case prototypes
}

private func columnSums(_ x: UnsafePointer<Float>, _ count: Int, _ d: Int) -> [Double] {
  var sums = [Double](repeating: 0, count: d)
  for row in 0..<count { for i in 0..<d { sums[i] += Double(x[row * d + i]) } }
  return sums
}

/// Effective rank, from the covariance or from the rows' Gram matrix, whichever is smaller: their non-zero eigenvalues
/// are the same. For more than 512 dimensions only the first 512 rows are used, which bounds the work.
private func rank(of x: UnsafePointer<Float>, _ mean: [Double], _ count: Int, _ d: Int) -> Double? {
  let rows = d > 512 ? min(count, 512) : count
  let centred = (0..<rows * d).map { Double(x[$0]) - mean[$0 % d] }
  let n = min(rows, d)
  var matrix = [Double](repeating: 0, count: n * n)
  centred.withUnsafeBufferPointer { c in
    if n == d {
      for row in 0..<rows {
        for i in 0..<d {
          let factor = c[row * d + i]
          for j in 0...i { matrix[i * d + j] += factor * c[row * d + j] }
        }
      }
    } else {
      for i in 0..<n {
        for j in 0...i {
          var sum = 0.0
          for k in 0..<d { sum += c[i * d + k] * c[j * d + k] }
          matrix[i * n + j] = sum
        }
      }
    }
  }
  for i in 0..<n { for j in 0..<i { matrix[j * n + i] = matrix[i * n + j] } }
  guard let values = symmetricEigenvalues(matrix, n)?.map({ max(0, $0) }) else { return nil }
  let trace = values.reduce(0, +)
  // A smaller spread is rounding of Float rows of length 1.
  if trace / Double(rows) < 1e-12 { return 0 }
  return exp(values.reduce(0) { $1 > 0 ? $0 - $1 / trace * log($1 / trace) : $0 })
}

extension Embeddings {
  /// Rows that are looked at, of all ranks together. More would not make the figures much more certain.
  package static let rowsForHealth = 4096

  /// Health of all ranks' embeddings, on the root, which writes it down; nil where there are too few, and on other
  /// ranks. Each rank gives at most its share of `rowsForHealth`. All ranks make this call.
  package func health(_ communicator: any Communicator) -> EmbeddingHealth? {
    let rows = min(values.count / dimension, max(1, Self.rowsForHealth / communicator.size))
    var counts = [Int64](repeating: 0, count: communicator.size)
    counts[communicator.rank] = Int64(rows * dimension)
    counts.withUnsafeMutableBufferPointer { communicator.allReduce($0, .sum, on: .control, "embedding counts") }
    let total = Int(counts.reduce(0, +))
    guard total >= 2 * dimension else { return nil }
    var all = [Float](repeating: 0, count: total)
    values.withUnsafeBufferPointer { mine in
      communicator.allGather(
        mine.baseAddress ?? UnsafePointer(bitPattern: 64)!, rows: counts.map(Int.init), width: 1, into: &all,
        "embeddings for health")
    }
    return communicator.isRoot ? EmbeddingHealth(all, count: total / dimension, dimension: dimension) : nil
  }
}
