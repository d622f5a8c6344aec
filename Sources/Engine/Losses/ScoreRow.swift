import Foundation

/// The scores of one image's classes, (K), and their softmax at a temperature.
struct ScoreRow {
  private let scores: UnsafePointer<Float>
  let count: Int
  private let temperature: Double
  /// log Σ_k exp(s_k/T)
  private let logSum: Double
  /// The class of the largest score; of equal ones the first.
  let largest: Int

  init(_ scores: UnsafePointer<Float>, count: Int, temperature: Double = 1) {
    self.scores = scores
    self.count = count
    self.temperature = temperature
    var largest = 0
    for k in 1..<max(1, count) where scores[k] > scores[largest] { largest = k }
    var sum = 0.0
    let top = Double(scores[largest])
    for k in 0..<count { sum += exp((Double(scores[k]) - top) / temperature) }
    logSum = log(sum) + top / temperature
    self.largest = largest
  }

  /// log p_k
  func logarithm(_ k: Int) -> Double { Double(scores[k]) / temperature - logSum }

  /// p_k
  func probability(_ k: Int) -> Double { exp(logarithm(k)) }
}
